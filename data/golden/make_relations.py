"""Relational knowledge distillation (arXiv 1904.05068), and its gradients, by PyTorch in f64: relations.json.

    pip install torch && python make_relations.py

Distances are divided by their mean over all pairs of two samples; both losses are means over all pairs and triples, those
of a sample with itself included, as in the authors' published program.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
HERE = pathlib.Path(__file__).parent


def distances(vectors):
    lengths = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(vectors)
    return lengths / (lengths.sum() / (n * (n - 1)))


def cosines(vectors):
    directions = F.normalize(vectors.unsqueeze(0) - vectors.unsqueeze(1), dim=2)
    return directions @ directions.transpose(1, 2)


def case(name, samples, teacher_size, student_size, spread):
    teacher = torch.randn(samples, teacher_size)
    # A student that is partly like its teacher, so that both branches of the Huber loss occur.
    student = torch.randn(samples, student_size) * torch.linspace(0.2, spread, samples).unsqueeze(1)
    student.requires_grad_()
    out = {"name": name, "teacher": teacher.tolist(), "student": student.tolist()}
    for kind, relation in (("distance", distances), ("angle", cosines)):
        loss = F.smooth_l1_loss(relation(student), relation(teacher))
        (gradient,) = torch.autograd.grad(loss, student)
        out[kind] = {"loss": loss.item(), "gradient": gradient.tolist()}
    return out


torch.manual_seed(0)
cases = [case("equal sizes", 4, 6, 6, 1.0), case("a narrow student", 7, 12, 5, 3.0), case("an outlier", 8, 4, 9, 40.0)]
text = json.dumps({"versions": {"torch": torch.__version__}, "cases": cases}, indent=1)
(HERE / "relations.json").write_text(text + "\n")
