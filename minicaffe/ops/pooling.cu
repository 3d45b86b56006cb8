// Pooling: one thread for each output, or in backward for each pixel. Words: device/kernel.py.

#define IMAGE Index height, Index width, Index batch
#define OUTPUT Index out_h, Index out_w
#define WINDOW Index kernel_h, Index kernel_w, Index stride_h, Index stride_w, Index pad_h, Index pad_w

// Of the output i = (c, oh, ow, n): its image, and its window [top, bottom) × [left, right) there; top and left may
// lie before the image.
#define FIND_WINDOW_OF_OUTPUT                                                                   \
    Index rest = i;                                                                             \
    Index n = pop(rest, batch), ow = pop(rest, out_w), oh = pop(rest, out_h), c = rest;         \
    Index top = oh * stride_h - pad_h, left = ow * stride_w - pad_w;                            \
    Index bottom = min(top + kernel_h, height), right = min(left + kernel_w, width);            \
    const T* image = x + c * height * width * batch + n;

#define EACH_PIXEL_OF_WINDOW(h, w)                         \
    for (Index h = max(top, (Index)0); h < bottom; h++)    \
        for (Index w = max(left, (Index)0); w < right; w++)

// Of the pixel i = (c, h, w, n): the outputs [first_h, last_h] × [first_w, last_w] whose windows have it.
#define FIND_OUTPUTS_OF_PIXEL                                                                   \
    Index rest = i;                                                                             \
    Index n = pop(rest, batch), w = pop(rest, width), h = pop(rest, height), c = rest;          \
    Index below = h + pad_h, beside = w + pad_w;                                                \
    Index first_h = below < kernel_h ? 0 : (below - kernel_h) / stride_h + 1;                   \
    Index first_w = beside < kernel_w ? 0 : (beside - kernel_w) / stride_w + 1;                 \
    Index last_h = min(below / stride_h, out_h - 1), last_w = min(beside / stride_w, out_w - 1);

#define EACH_OUTPUT_OF_PIXEL(oh, ow)                       \
    for (Index oh = first_h; oh <= last_h; oh++)           \
        for (Index ow = first_w; ow <= last_w; ow++)

// A window's size along one axis, clipped to the padded image.
#define SPAN(start, kernel, size, pad) max(min((start) + (kernel), (size) + (pad)) - (start), (Index)1)

KERNEL max_pool(Index count, const T* x, T* y, Place* argmax, Index keeps_argmax, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_WINDOW_OF_OUTPUT
        T best = -3.40282346638528859811704183484516925e+38f;  // LOWEST in pooling.py
        Index place = 0;
        EACH_PIXEL_OF_WINDOW(h, w) {
            T pixel = image[(h * width + w) * batch];
            if (pixel > best) {
                best = pixel;
                place = (h - top) * kernel_w + w - left;
            }
        }
        y[i] = best;
        if (keeps_argmax) argmax[i] = place;
    }
}

KERNEL max_pool_grad(Index count, const T* dy, const Place* argmax, T* dx, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_OUTPUTS_OF_PIXEL
        T sum = 0;
        EACH_OUTPUT_OF_PIXEL(oh, ow) {
            Index output = ((c * out_h + oh) * out_w + ow) * batch + n;
            Index place = (below - oh * stride_h) * kernel_w + beside - ow * stride_w;
            if (argmax[output] == place) sum += dy[output];
        }
        dx[i] = sum;
    }
}

KERNEL ave_pool(Index count, const T* x, T* y, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_WINDOW_OF_OUTPUT
        T sum = 0;
        EACH_PIXEL_OF_WINDOW(h, w) sum += image[(h * width + w) * batch];
        y[i] = sum / (SPAN(top, kernel_h, height, pad_h) * SPAN(left, kernel_w, width, pad_w));
    }
}

KERNEL ave_pool_grad(Index count, const T* dy, T* dx, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_OUTPUTS_OF_PIXEL
        T sum = 0;
        EACH_OUTPUT_OF_PIXEL(oh, ow) {
            Index area = SPAN(oh * stride_h - pad_h, kernel_h, height, pad_h)
                         * SPAN(ow * stride_w - pad_w, kernel_w, width, pad_w);
            sum += dy[((c * out_h + oh) * out_w + ow) * batch + n] / area;
        }
        dx[i] = sum;
    }
}

KERNEL expected_pool(Index count, const T* x, T* y, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_WINDOW_OF_OUTPUT
        T squares = 0, sum = 0;
        EACH_PIXEL_OF_WINDOW(h, w) {
            T pixel = image[(h * width + w) * batch];
            squares += pixel * pixel;
            sum += pixel;
        }
        y[i] = sum == 0 ? squares : squares / sum;
    }
}

KERNEL sample_pool(Index count, const T* x, const T* threshold, T* y, Place* picked, IMAGE, OUTPUT, WINDOW)
{
    EACH(i) {
        FIND_WINDOW_OF_OUTPUT
        T total = 0, running = 0;
        EACH_PIXEL_OF_WINDOW(h, w) total += image[(h * width + w) * batch];
        T limit = threshold[i] * total;
        y[i] = 0;
        picked[i] = 0;
        bool taken = false;
        EACH_PIXEL_OF_WINDOW(h, w) {
            if (taken) break;
            T pixel = image[(h * width + w) * batch];
            running += pixel;
            taken = running > limit;
            if (taken) {
                y[i] = pixel;
                picked[i] = (h - top) * kernel_w + w - left;
            }
        }
    }
}
