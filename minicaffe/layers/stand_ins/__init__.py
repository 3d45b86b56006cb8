"""Layers that take the place of Python layers of others, which nets name and nobody can import any more.

Every file here is imported, and enters what it defines under the names of a module and a class
(``minicaffe/layers/python.py``). ``base`` and ``py_faster_rcnn`` hold what several share.
"""

from minicaffe.startup import import_all

import_all(__name__)
