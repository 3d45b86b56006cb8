// Means and variances of rows x (R, I, T), and what is made of them. Words: device/kernel.py.
//
// `threads` threads share a row, and add up every threads-th place; a second kernel adds up the threads' sums.

#define SIZES Index threads, Index places, Index side

// For each (row, thread, t): the sums of v and of v² for v = x − centre.
KERNEL moment_sums(Index count, const T* x, const T* centre, T* sums, SIZES)
{
    EACH(i) {
        Index rest = i;
        Index t = pop(rest, side), first = pop(rest, threads), row = rest, start = row * places * side + t;
        T sum = 0, square = 0, middle = centre[row * side + t];
        for (Index place = first; place < places; place += threads) {
            T v = x[start + place * side] - middle;
            sum += v;
            square += v * v;
        }
        sums[i] = sum;
        sums[count + i] = square;
    }
}

// For each (row, t): `mean` is the centre, and becomes the mean.
KERNEL moments(Index count, const T* sums, T* mean, T* variance, SIZES)
{
    EACH(i) {
        Index row = i;
        Index t = pop(row, side), start = row * threads * side + t;
        T sum = 0, square = 0;
        for (Index thread = 0; thread < threads; thread++) {
            sum += sums[start + thread * side];
            square += sums[count * threads + start + thread * side];
        }
        sum /= places;
        mean[i] += sum;
        variance[i] = max(square / places - sum * sum, (T)0);
    }
}

KERNEL normalize(Index count, const T* x, const T* mean, const T* scale, T* y, Index places, Index side)
{
    EACH(i) {
        Index c = i / (places * side) * side + i % side;
        y[i] = (x[i] - mean[c]) * scale[c];
    }
}

// For each (row, thread, t): the sums of dy and of dy · (x − μ).
KERNEL normalize_grad_sums(Index count, const T* x, const T* dy, const T* mean, T* sums, SIZES)
{
    EACH(i) {
        Index rest = i;
        Index t = pop(rest, side), first = pop(rest, threads), row = rest, start = row * places * side + t;
        T sum = 0, product = 0, centre = mean[row * side + t];
        for (Index place = first; place < places; place += threads) {
            T d = dy[start + place * side];
            sum += d;
            product += d * (x[start + place * side] - centre);
        }
        sums[i] = sum;
        sums[count + i] = product;
    }
}

// For each (row, t).
KERNEL normalize_grad_means(Index count, const T* sums, const T* scale, T* mean_dy, T* slope, SIZES)
{
    EACH(i) {
        Index row = i;
        Index t = pop(row, side), start = row * threads * side + t;
        T sum = 0, product = 0;
        for (Index thread = 0; thread < threads; thread++) {
            sum += sums[start + thread * side];
            product += sums[count * threads + start + thread * side];
        }
        mean_dy[i] = sum / places;
        slope[i] = product * scale[i] * scale[i] / places;
    }
}

KERNEL normalize_grad(Index count, const T* x, const T* dy, const T* mean, const T* scale, const T* mean_dy,
                      const T* slope, T* dx, Index places, Index side)
{
    EACH(i) {
        Index c = i / (places * side) * side + i % side;
        dx[i] = (dy[i] - mean_dy[c] - (x[i] - mean[c]) * slope[c]) * scale[c];
    }
}
