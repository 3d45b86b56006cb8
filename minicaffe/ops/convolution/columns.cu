// Columns of the data matrix X, for a block of outputs: some rows, columns and images. Words: device/kernel.py.

#define IMAGE Index height, Index width, Index batch
#define KERNEL_SIZES Index kernel_h, Index kernel_w, Index stride_h, Index stride_w, Index dilation_h, Index dilation_w
#define BLOCK Index row, Index rows, Index col, Index cols, Index image, Index images

// One thread for each number of X; x has its border.
KERNEL copy_columns(Index count, const T* x, T* columns, IMAGE, KERNEL_SIZES, BLOCK)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, images), q = pop(rest, cols), r = pop(rest, rows);
        Index kj = pop(rest, kernel_w), ki = pop(rest, kernel_h), c = rest;
        Index h = (row + r) * stride_h + ki * dilation_h, w = (col + q) * stride_w + kj * dilation_w;
        columns[i] = x[((c * height + h) * width + w) * batch + image + n];
    }
}

// One thread for each pixel of some lines of x, which gathers what of X comes from it.
KERNEL add_columns(Index count, const T* columns, T* x, IMAGE, KERNEL_SIZES, Index pad_h, Index pad_w, BLOCK,
                   Index line, Index lines)
{
    EACH(i) {
        Index rest = i;
        Index n = pop(rest, images), w = pop(rest, width), h = line + pop(rest, lines), c = rest;
        T sum = 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index above = h + pad_h - ki * dilation_h - row * stride_h, r = above / stride_h;
            if (above < 0 || r * stride_h != above || r >= rows) continue;
            for (Index kj = 0; kj < kernel_w; kj++) {
                Index left = w + pad_w - kj * dilation_w - col * stride_w, q = left / stride_w;
                if (left < 0 || q * stride_w != left || q >= cols) continue;
                sum += columns[((((c * kernel_h + ki) * kernel_w + kj) * rows + r) * cols + q) * images + n];
            }
        }
        x[((c * height + h) * width + w) * batch + image + n] += sum;
    }
}
