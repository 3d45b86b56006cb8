// Local response normalisation: one thread for each element, which reads its window. Words: device/kernel.py.

#define CONSTANTS T alpha, T beta, T k
#define SIZES Index channels, Index height, Index width, Index batch, Index half_c, Index half_h, Index half_w

#define SQUARE(j) x[j] * x[j]
#define RATIO(j) ratio[j]

// sum = Σ VALUE(j) over the elements j of the window around i = (c, h, w, n), clipped to the array.
#define SUM_OVER_WINDOW(VALUE)                                                                     \
    Index rest = i;                                                                                \
    Index n = pop(rest, batch), w = pop(rest, width), h = pop(rest, height), c = rest;             \
    T sum = 0;                                                                                     \
    for (Index a = max(c - half_c, (Index)0); a <= min(c + half_c, channels - 1); a++)             \
        for (Index b = max(h - half_h, (Index)0); b <= min(h + half_h, height - 1); b++)           \
            for (Index d = max(w - half_w, (Index)0); d <= min(w + half_w, width - 1); d++)        \
                sum += VALUE(((a * height + b) * width + d) * batch + n);

KERNEL lrn_forward(Index count, const T* x, T* y, CONSTANTS, SIZES)
{
    EACH(i) {
        SUM_OVER_WINDOW(SQUARE)
        y[i] = x[i] * pow(k + alpha * sum, -beta);
    }
}

// The first term of the gradient, and what the second is a sum of: each element wants its neighbours' ratios.
KERNEL lrn_ratio(Index count, const T* x, const T* dy, T* ratio, T* dx, CONSTANTS, SIZES)
{
    EACH(i) {
        SUM_OVER_WINDOW(SQUARE)
        T s = k + alpha * sum, scaled = dy[i] * pow(s, -beta);
        dx[i] = scaled;
        ratio[i] = x[i] * scaled / s;
    }
}

KERNEL lrn_backward(Index count, const T* x, const T* ratio, T* dx, T factor, SIZES)
{
    EACH(i) {
        SUM_OVER_WINDOW(RATIO)
        dx[i] -= factor * x[i] * sum;
    }
}
