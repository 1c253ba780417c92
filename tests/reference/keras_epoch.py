"""An epoch of training as Keras does it, and its early stopping: literal loops for one seed."""

import numpy as np


def batch_gradient(kernels, images, labels, actions, batch_size, rule):
    """Gradient of the published losses on one batch of a ReLU net without biases.

    BrainProp's loss is the sum of ½(r − q_s)² over the images, divided by the nominal batch size;
    the control's cross-entropy is averaged over the images there are.
    """
    gradients = [np.zeros_like(kernel) for kernel in kernels]
    for image, label, action in zip(images, labels, actions, strict=True):
        activities = [image]
        for i, kernel in enumerate(kernels):
            drive = activities[-1] @ kernel
            activities.append(drive if i == len(kernels) - 1 else np.maximum(drive, 0))
        outputs = activities[-1]
        error = np.zeros_like(outputs)
        if rule == "q_agrel":
            error[action] = -(float(action == label) - outputs[action]) / batch_size
        else:
            error = np.exp(outputs) / np.exp(outputs).sum() / len(images)
            error[label] -= 1 / len(images)
        for i in range(len(kernels) - 1, -1, -1):
            gradients[i] += np.outer(activities[i], error)
            error = (kernels[i] @ error) * (activities[i] > 0)
    return gradients


class EarlyStopping:
    """Keras's callback with ``monitor="val_accuracy"``, ``min_delta`` and ``patience``."""

    def __init__(self, min_delta, patience):
        self.min_delta, self.patience = min_delta, patience
        self.best, self.wait, self.stopped_epoch = -np.inf, 0, None

    def on_epoch_end(self, epoch, accuracy):
        """Take the accuracy after ``epoch``, counted from 0; logs hold Python floats."""
        accuracy = float(accuracy)
        self.wait += 1
        if accuracy - self.min_delta > self.best:
            self.best, self.wait = accuracy, 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
