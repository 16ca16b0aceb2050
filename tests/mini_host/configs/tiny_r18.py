from easydict import EasyDict

config = EasyDict(lr=0.05)
