from easydict import EasyDict

config = EasyDict(
    network="r18", embedding_size=16, margin_list=(1.0, 0.5, 0.0), sample_rate=1, interclass_filtering_threshold=0,
    fp16=False, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, batch_size=4, num_epoch=1, warmup_epoch=0,
    gradient_acc=1, resume=False, save_all_states=False, output=None, rec="synthetic", num_classes=4, num_image=8,
    val_targets=[], verbose=2000, frequent=1, seed=1, num_workers=0, dali=False, dali_aug=False, using_wandb=False,
    wandb_key="X" * 40, suffix_run_name=None, wandb_entity="entity", wandb_project="project", wandb_log_all=True,
    save_artifacts=False, wandb_resume=False, notes=None,
    key_of_the_checkout="kept",
)  # fmt: skip
