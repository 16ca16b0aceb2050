import argparse
import logging
import os

import torch
from backbones import get_model
from dataset import get_dataloader
from losses import CombinedMarginLoss
from lr_scheduler import PolynomialLRWarmup
from partial_fc_v2 import PartialFC_V2
from torch import distributed
from torch.utils.tensorboard import SummaryWriter
from utils.utils_callbacks import CallBackLogging, CallBackVerification
from utils.utils_config import get_config
from utils.utils_distributed_sampler import setup_seed
from utils.utils_logging import AverageMeter, init_logging

rank, local_rank, world_size = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
distributed.init_process_group("gloo")


def main(args):
    cfg = get_config(args.config)
    setup_seed(seed=cfg.seed, cuda_deterministic=False)
    os.makedirs(cfg.output, exist_ok=True)
    init_logging(rank, cfg.output)
    writer = SummaryWriter(log_dir=os.path.join(cfg.output, "tensorboard")) if rank == 0 else None
    tracked = None
    if cfg.using_wandb:
        import wandb

        wandb.login(key=cfg.wandb_key)
        named = dict(entity=cfg.wandb_entity, project=cfg.wandb_project, resume=cfg.wandb_resume, name="mini")
        tracked = wandb.init(**named, notes=cfg.notes) if rank == 0 or cfg.wandb_log_all else None
        if tracked:
            tracked.config.update(cfg)
    loader = get_dataloader(cfg.rec, local_rank, cfg.batch_size, cfg.dali, cfg.dali_aug, cfg.seed, cfg.num_workers)
    backbone = get_model(cfg.network, dropout=0.0, fp16=cfg.fp16, num_features=cfg.embedding_size)
    backbone = torch.nn.parallel.DistributedDataParallel(backbone, broadcast_buffers=False)
    backbone.train()
    margin_loss = CombinedMarginLoss(64, *cfg.margin_list, cfg.interclass_filtering_threshold)
    head = PartialFC_V2(margin_loss, cfg.embedding_size, cfg.num_classes, cfg.sample_rate, False)
    groups = [{"params": backbone.parameters()}, {"params": head.train().parameters()}]
    opt = torch.optim.SGD(groups, lr=cfg.lr, momentum=0.9, weight_decay=cfg.weight_decay)
    epoch_steps = cfg.num_image // (cfg.batch_size * world_size)
    total_step = epoch_steps * cfg.num_epoch
    schedule = PolynomialLRWarmup(optimizer=opt, warmup_iters=epoch_steps * cfg.warmup_epoch, total_iters=total_step)
    start_epoch = global_step = 0
    path = os.path.join(cfg.output, f"checkpoint_gpu_{rank}.pt")
    if cfg.resume:
        saved = torch.load(path)
        start_epoch, global_step = saved["epoch"], saved["global_step"]
        for name, part in ("backbone", backbone.module), ("softmax_fc", head), ("lr_scheduler", schedule):
            part.load_state_dict(saved[f"state_dict_{name}" if name != "lr_scheduler" else "state_lr_scheduler"])
        opt.load_state_dict(saved["state_optimizer"])
    for key, value in cfg.items():
        logging.info(": " + key + " " * (25 - len(key)) + str(value))
    verify = CallBackVerification(cfg.val_targets, cfg.rec, summary_writer=writer, wandb_logger=None)
    log = CallBackLogging(cfg.frequent, total_step, cfg.batch_size, start_step=global_step, writer=writer)
    loss_am = AverageMeter()
    for epoch in range(start_epoch, cfg.num_epoch):
        loader.sampler.set_epoch(epoch)
        for img, local_labels in loader:
            global_step += 1
            loss = head(backbone(img), local_labels)
            loss.backward()
            if global_step % cfg.gradient_acc == 0:
                torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5)
                opt.step()
                opt.zero_grad()
            schedule.step()
            if tracked:
                tracked.log({"Loss/Step Loss": loss.item(), "Process/Step": global_step})
            loss_am.update(loss.item(), 1)
            log(global_step, loss_am, epoch, cfg.fp16, schedule.get_last_lr()[0], None)
            if global_step % cfg.verbose == 0:
                verify(global_step, backbone)
        if cfg.save_all_states:
            states = {"state_dict_backbone": backbone.module.state_dict(), "state_dict_softmax_fc": head.state_dict()}
            states |= {"state_optimizer": opt.state_dict(), "state_lr_scheduler": schedule.state_dict()}
            torch.save({"epoch": epoch + 1, "global_step": global_step, **states}, path)
        if rank == 0:
            torch.save(backbone.module.state_dict(), os.path.join(cfg.output, "model.pt"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=str)
    main(parser.parse_args())
