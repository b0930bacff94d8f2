"""The paper's small network for 28 x 28 grey images."""

from torch import Tensor, nn


class PaperNet(nn.Module):
    """conv 20@5, pool, conv 50@5, pool, fc 500, fc K: (B, 1, 28, 28) -> (B, K) logits."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(50 * 4 * 4, 500), nn.ReLU(), nn.Linear(500, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.convolutions(images))
