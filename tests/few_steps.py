"""A trainer for nnU-Net that ends after a few steps; nnU-Net finds it by `nnUNet_extTrainer`."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class FewSteps(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 4, 1

    def perform_actual_validation(self, save_probabilities=False):
        """Predict no validation volume: the test predicts others."""
