"""A trainer for nnU-Net that a CPU can do: a quarter of the channels, and four short epochs with Adam.

Copy it into a folder of its own, and let nnUNet_extTrainer name that: nnU-Net imports all modules there.
Stochastic gradient descent, as nnU-Net has it, learns nothing in so few steps.
"""

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

NARROWER = 4
RATE = 2e-3


class NarrowTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 4, 100, 5

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, RATE, self.num_epochs)

    @staticmethod
    def build_network_architecture(
        plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ):
        made = dict(configuration_manager.network_arch_init_kwargs)
        made["features_per_stage"] = [max(number // NARROWER, 4) for number in made["features_per_stage"]]
        return get_network_from_plans(
            configuration_manager.network_arch_class_name,
            made,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )
