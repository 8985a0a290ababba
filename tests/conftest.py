"""What all tests share."""

import torch

# One thread: the networks of the tests are too small to gain from more, and results do not depend on the machine.
torch.set_num_threads(1)
