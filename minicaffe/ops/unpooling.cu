// Unpooling: one thread for each pixel of x (c, p, n), whose place in y is mask's; what is no place is left out,
// before it becomes a whole number, which not all are. Words: device/kernel.py.

KERNEL unpool(Index count, const T* x, const T* mask, T* y, Index pixels, Index places, Index batch)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), c = rest / pixels;
        if (mask[i] >= 0 && mask[i] < places)
            y[(c * places + (Index)mask[i]) * batch + n] = x[i];
    }
}

KERNEL unpool_grad(Index count, const T* dy, const T* mask, T* dx, Index pixels, Index places, Index batch)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), c = rest / pixels;
        dx[i] = mask[i] >= 0 && mask[i] < places ? dy[(c * places + (Index)mask[i]) * batch + n] : 0;
    }
}
