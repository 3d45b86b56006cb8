// Dropout. Words: device/kernel.py.

KERNEL drop(Index count, const T* x, const unsigned short* bits, T* y, Index threshold, T scale)
{
    EACH(i) y[i] = bits[i] >= threshold ? x[i] * scale : 0;
}
