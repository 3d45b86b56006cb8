// Unpooling: one thread for each pixel of x (c, p, n), whose place in y is mask's. Words: device/kernel.py.

KERNEL unpool(Index count, const T* x, const T* mask, T* y, Index pixels, Index places, Index batch)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), c = rest / pixels, place = (Index)mask[i];
        if (place >= 0 && place < places)
            y[(c * places + place) * batch + n] = x[i];
    }
}

KERNEL unpool_grad(Index count, const T* dy, const T* mask, T* dx, Index pixels, Index places, Index batch)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), c = rest / pixels, place = (Index)mask[i];
        dx[i] = place >= 0 && place < places ? dy[(c * places + place) * batch + n] : 0;
    }
}
