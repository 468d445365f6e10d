"""Costs on the parameter vector: VDC, WPDC and its fast form.

VDC and WPDC: Zhu et al., "Face alignment in full pose range: a 3D total solution", 2017; the fast
form: Guo et al., "Towards fast, accurate and stable 3D dense face alignment", 2020. A parameter
vector is the camera (3x4, row-major: scaled rotation and offset), then shape, then expression, as
in the model sets.
"""

from __future__ import annotations

import torch
from torch import nn

CAMERA = 12


class LinearFace(nn.Module):
    """Vertices of parameter vectors.

    Parameters
    ----------
    mean : (n, 3)
    basis : (k, n, 3), shape and then expression components
    """

    def __init__(self, mean: torch.Tensor, basis: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)

    def forward(self, params: torch.Tensor) -> torch.Tensor:
        """(b, 12 + k) -> (b, n, 3)."""
        face = self.neutral(params)
        camera = params[:, :CAMERA].unflatten(1, (3, 4))
        return face @ camera[:, :, :3].transpose(1, 2) + camera[:, None, :, 3]

    def neutral(self, params: torch.Tensor) -> torch.Tensor:
        """(b, n, 3) vertices before the camera."""
        offset = params[:, CAMERA:] @ self.basis.flatten(1)
        return self.mean + offset.unflatten(1, (-1, 3))


def vertex_distance_cost(
    face: LinearFace, params: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """VDC: mean squared distance of the vertices, scalar."""
    return ((face(params) - face(truth)) ** 2).sum(dim=2).mean()


def wpdc_weights(face: LinearFace, params: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(b, 12 + k) weights of WPDC by its definition, the largest of a face being 1.

    The weight of a parameter is how far the vertices move when it alone is wrong: all others are
    those of the truth.
    """
    with torch.no_grad():
        right = face(truth)
        weights = []
        for k in range(params.shape[1]):
            one_wrong = truth.clone()
            one_wrong[:, k] = params[:, k]
            weights.append((face(one_wrong) - right).flatten(1).norm(dim=1))
        return _to_largest(torch.stack(weights, dim=1))


def fast_wpdc_weights(face: LinearFace, params: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The same in closed form; exact where the truth's camera is a scaled rotation.

    A wrong entry of the rotation moves the vertices by their coordinate of its column, a wrong
    offset moves all alike, and a component's vertices keep their lengths under a rotation.
    """
    with torch.no_grad():
        wrong = (params - truth).abs()
        columns = face.neutral(truth).norm(dim=1)
        count = columns.new_tensor(float(len(face.mean))).sqrt().expand(len(params), 1)
        row = torch.cat([columns, count], dim=1)
        scale = truth[:, :3].norm(dim=1, keepdim=True)
        lengths = face.basis.flatten(1).norm(dim=1)
        of_camera = wrong[:, :CAMERA] * row.repeat(1, 3)
        of_components = wrong[:, CAMERA:] * scale * lengths
        return _to_largest(torch.cat([of_camera, of_components], dim=1))


def _to_largest(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.amax(dim=1, keepdim=True).clamp(min=1e-12)


def weighted_parameter_cost(
    params: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """WPDC: mean over the faces of the weighted squared parameter errors, scalar."""
    return (weights * (params - truth) ** 2).sum(dim=1).mean()


def vanilla_joint(weighted: torch.Tensor, vertex: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    """Both costs in one, the vertex cost brought to the size of the other before it is added."""
    ratio = (weighted / vertex.clamp(min=1e-12)).detach()
    return share * weighted + (1 - share) * ratio * vertex
