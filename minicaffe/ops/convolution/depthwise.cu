// The products of a convolution with a group for each channel. Words: device/kernel.py.

// `multiplier` filters for each channel, and an image of height × width pixels to rows × cols outputs
#define SIZES Index multiplier, Index height, Index width, Index rows, Index cols, Index batch
#define KERNEL_SIZES Index kernel_h, Index kernel_w, Index stride_h, Index stride_w, Index dilation_h, Index dilation_w

// One thread for each number of y; x has its border.
KERNEL depthwise_forward(Index count, const T* x, const T* w, const T* bias, T* y, Index has_bias, SIZES, KERNEL_SIZES)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), q = pop(rest, cols), r = pop(rest, rows), filter = rest;
        Index c = filter / multiplier;
        T sum = has_bias ? bias[filter] : 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index line = (c * height + r * stride_h + ki * dilation_h) * width + q * stride_w;
            for (Index kj = 0; kj < kernel_w; kj++)
                sum += w[(filter * kernel_h + ki) * kernel_w + kj] * x[(line + kj * dilation_w) * batch + n];
        }
        y[i] = sum;
    }
}

// Several threads for each weight: each adds up every threads-th column. x has its border.
KERNEL depthwise_weight_grad(Index count, const T* x, const T* dy, T* sums, Index threads, SIZES, KERNEL_SIZES)
{
    EACH(i) {
        Index rest = i, columns = rows * cols * batch;
        Index first = pop(rest, threads), kj = pop(rest, kernel_w), ki = pop(rest, kernel_h), filter = rest;
        Index c = filter / multiplier;
        T sum = 0;
        for (Index column = first; column < columns; column += threads) {
            Index place = column;
            Index n = pop(place, batch), q = pop(place, cols), r = place;
            Index h = r * stride_h + ki * dilation_h, v = q * stride_w + kj * dilation_w;
            sum += x[((c * height + h) * width + v) * batch + n] * dy[filter * columns + column];
        }
        sums[i] = sum;
    }
}

// One thread for each pixel, which gathers from the outputs that it has added to.
KERNEL depthwise_input_grad(Index count, const T* dy, const T* w, T* dx, SIZES, KERNEL_SIZES, Index pad_h, Index pad_w)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, batch), v = pop(rest, width), h = pop(rest, height), c = rest;
        T sum = 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index above = h + pad_h - ki * dilation_h, r = above / stride_h;
            if (above < 0 || r * stride_h != above || r >= rows) continue;
            for (Index kj = 0; kj < kernel_w; kj++) {
                Index left = v + pad_w - kj * dilation_w, q = left / stride_w;
                if (left < 0 || q * stride_w != left || q >= cols) continue;
                for (Index filter = c * multiplier; filter < (c + 1) * multiplier; filter++)
                    sum += w[(filter * kernel_h + ki) * kernel_w + kj]
                         * dy[((filter * rows + r) * cols + q) * batch + n];
            }
        }
        dx[i] = sum;
    }
}
