"""What the loop calls: verification and log lines."""

import logging
import os

from eval import verification
from torch import distributed


class CallBackVerification:
    def __init__(self, val_targets, rec_prefix, summary_writer=None, image_size=(112, 112), wandb_logger=None):
        paths = {name: os.path.join(rec_prefix, name + ".bin") for name in val_targets}
        self.sets = {name: verification.load_bin(path, image_size) for name, path in paths.items()}

    def __call__(self, num_update, backbone):
        backbone.eval()
        for name, pairs in self.sets.items():
            accuracy = verification.test(pairs, backbone, 10, 10)
            logging.info("[%s][%d]Accuracy-Flip: %1.5f", name, num_update, accuracy)
        backbone.train()


class CallBackLogging:
    def __init__(self, frequent, total_step, batch_size, start_step=0, writer=None):
        self.frequent, self.total_step, self.writer = frequent, total_step, writer

    def __call__(self, global_step, loss, epoch, fp16, learning_rate, grad_scaler):
        if distributed.get_rank() == 0 and global_step % self.frequent == 0:
            self.writer.add_scalar("loss", loss.avg, global_step)
            logging.info("Loss %.4f   LearningRate %.6f   Global Step: %d", loss.avg, learning_rate, global_step)
            loss.reset()
