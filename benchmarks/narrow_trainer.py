"""A trainer for nnU-Net that a CPU can do: a quarter of the channels, four short epochs. See nnUNet_extTrainer."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

NARROWER = 4


class NarrowTrainer(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 4, 100, 5

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
