// Max-pooling of regions of interest: one thread for each output (c, ph, pw, r). Words: device/kernel.py.

KERNEL max_roi_pool(Index count, const T* x, const T* regions, T* y, Place* argmax, Index height, Index width,
                    Index batch, Index pooled_h, Index pooled_w, Index amount, T scale)
{
    EACH(i) {
        Index rest = i;
        Index r = pop(rest, amount), pw = pop(rest, pooled_w), ph = pop(rest, pooled_h), c = rest;
        const T* region = regions + r;  // (5, R)
        Index n = (Index)region[0];
        Index left = (Index)round(region[amount] * scale), top = (Index)round(region[2 * amount] * scale);
        Index right = (Index)round(region[3 * amount] * scale), bottom = (Index)round(region[4 * amount] * scale);
        T bin_h = (T)max(bottom - top + 1, (Index)1) / (T)pooled_h;
        T bin_w = (T)max(right - left + 1, (Index)1) / (T)pooled_w;
        Index h_end = min(max((Index)ceil((ph + 1) * bin_h) + top, (Index)0), height);
        Index w_end = min(max((Index)ceil((pw + 1) * bin_w) + left, (Index)0), width);
        Index h_start = min(max((Index)floor(ph * bin_h) + top, (Index)0), height);
        Index w_start = min(max((Index)floor(pw * bin_w) + left, (Index)0), width);
        bool is_image = n >= 0 && n < batch;
        T best = 0;
        Place place = -1;
        for (Index h = h_start; h < h_end && is_image; h++)
            for (Index w = w_start; w < w_end; w++) {
                T pixel = x[((c * height + h) * width + w) * batch + n];
                if (place < 0 || pixel > best) {
                    best = pixel;
                    place = h * width + w;
                }
            }
        y[i] = best;
        argmax[i] = place;
    }
}
