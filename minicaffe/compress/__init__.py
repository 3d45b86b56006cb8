"""Making a trained net cheaper: ranks for its layers, factors fitted to data, and what that costs in accuracy.

To be read in this order. A layer:

    plan.py            what a plan is: a rank for some layers, each in a scheme; what a rank costs there
    suitable.py        which layers can be of low rank, and why others stay dense
    moments.py         a layer's inputs x and responses y: means and covariances, and least squares with them
    columns.py         the same where there are fewer columns than rows
    moment_sums.py     their sums over batches
    layer_fits.py      a layer's factors at any rank, and what each rank misses: what all ways to them share
    channel_fits.py    those of the channel scheme, and bases of the data, by principal components
    spatial_fits.py    those of the spatial scheme, by alternating least squares
    fitting.py         the door to these

A net, and the choice of its ranks (``lowrank plan``, ``lowrank select``):

    batches.py         images, copied so that several nets can run on them
    pictures.py        those of image files
    score.py           what is measured of a net
    answers.py         the ways to score one: by its classes, its other outputs, or both
    trained.py         the trained net, with all its weights
    workbench.py       it, a copy of it to try ranks on, batches
    prediction.py      what a plan will lose, before it is tried
    cost.py            what it costs: multiply-adds, weights, or time
    curves.py          the plans that are best if losses add up
    forecast.py        the table of ``plan``
    selection.py       the search of ``select``

What is made of it:

    shrunk.py          the spec with the ranks in it, and its weights
    outputs.py         the files that they are written to
    gains.py           size, multiply-adds and time, before and after
    distill.py         training the factors to answer as the dense net does

Beside these:

    sweep.py, plot.py  accuracy against rank, and its picture
    survey.py, ways.py what a layer loses at every rank: for ``lowrank errors``, and for the report
    rules.py           ranks without data (``lowrank set``)
    truncated.py       factors without data: of the weights themselves
    fold.py            BatchNorm and Scale folded into weights (``minicaffe fold``)
    journal.py         measurements kept in a file, so that a search can go on
    stopwatch.py       times, and whether they say anything
    lazy.py            a property that is computed once, for several threads

Six quantities, from a layer's rank to what the net's user sees. All are pure numbers; 0.01 of the last three
is one point. In the code: ``LayerFits.missed``, ``Score.distance``, ``Prediction.rise``, ``Measured.lost``,
``Prediction.drop`` and ``Measured.drop_from``, ``Measured.score``.

    missed     of a layer at a rank: E‖y − ŷ‖² as a share of the variance of its responses y. It is known at
               every rank at once, from the moments.
    distance   of a net's answers from the dense net's, measured: the mean divergence of Kullback and Leibler of
               its probabilities (in nats), or ‖y − ŷ‖² / ‖y‖² of other outputs. Small ones add up.
    rise       the distance that a layer at a rank brings if it alone is approximated: measured at a few ranks,
               and between these read off what it misses.
    lost       what a net that was measured is expected to lose of its score. That is told, without labels, by
               how sure the dense net was where the answers differ; of other outputs it is their error.
    drop       what of the score to reckon as lost: of a plan before it is tried, from the sum of its rises; of
               a net that was measured, from what is lost, with care, and from what was surely counted.
    score      the share of right answers, or of those that are the dense net's, or 1 − ‖y − ŷ‖ / ‖y‖.
"""
