// Softmax over the leading axis, and the cross entropy of labels. Words: device/kernel.py.

// One thread for each place, which goes through the classes.
KERNEL softmax(Index count, const T* x, T* y, Index classes)
{
    EACH(p) {
        T most = x[p], sum = 0;
        for (Index c = 1; c < classes; c++) most = max(most, x[c * count + p]);
        for (Index c = 0; c < classes; c++) {
            T power = exp(x[c * count + p] - most);
            y[c * count + p] = power;
            sum += power;
        }
        for (Index c = 0; c < classes; c++) y[c * count + p] /= sum;
    }
}

KERNEL cross_entropy(Index count, const T* probability, const long long* labels, T* loss, Index classes, T smallest)
{
    EACH(p) {
        long long label = labels[p];
        bool is_class = label >= 0 && label < classes;  // else the loss is no number, which ends the training
        T own = is_class ? probability[label * count + p] : (T)nan("");
        loss[p] = -log(own < smallest ? smallest : own);  // not max, which would make a number of nan
    }
}

KERNEL cross_entropy_grad(Index count, const T* probability, const long long* labels, T* dx, Index places)
{
    EACH(i) dx[i] = probability[i] - (i / places == labels[i % places]);
}
