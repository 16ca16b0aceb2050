"""Accuracy of pairs at the best threshold."""

import pickle

import cv2
import numpy as np
import torch


def load_bin(path, image_size):
    with open(path, "rb") as file:
        encoded, same = pickle.load(file, encoding="bytes")
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in encoded]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1, np.asarray(same)


@torch.no_grad()
def test(data_set, backbone, batch_size, nfolds=10):
    images, same = data_set
    features = torch.nn.functional.normalize(torch.cat([backbone(part) for part in images.split(batch_size)]))
    cosine = (features[0::2] * features[1::2]).sum(1).numpy()
    return max(((cosine >= threshold) == same).mean() for threshold in cosine)
