"""Teachers: which weights are in force, and how far they move."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from unisd.config.objective import Ema
from unisd.teacher.adapter import BaseTeacher, EmaAdapterTeacher
from unisd.teacher.full import FullTeacher
from unisd.teacher.shadow import Shadow

IDS = torch.tensor([[5, 6, 7]])


@pytest.fixture
def student(tiny_model):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    return get_peft_model(
        base, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )


def move(model, by):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default." in name or ("lora" not in name and not hasattr(model, "peft_config")):
                parameter.add_(by)


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_base_teacher_is_the_model_without_its_adapter(student, tiny_model):
    move(student, 0.1)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = trainable(student)
    with BaseTeacher(student).weights() as teacher:
        torch.testing.assert_close(teacher(IDS).logits, base(IDS).logits)
    assert not torch.allclose(student(IDS).logits, base(IDS).logits)
    assert trainable(student) == before


def test_ema_adapter_starts_at_the_base_and_follows_by_the_formula(student, tiny_model):
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = trainable(student)
    teacher = EmaAdapterTeacher(student, Ema(decay=0.75, every_steps=2))
    assert trainable(student) == before
    with teacher.weights() as model:
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits)
    start = {name: value.clone() for name, value in teacher.state().items()}
    move(student, 0.1)
    teacher.update(1)
    assert all(torch.equal(start[name], value) for name, value in teacher.state().items())
    teacher.update(2)
    for name, value in teacher.state().items():
        torch.testing.assert_close(value, start[name] + 0.25 * 0.1)
    ours, theirs = teacher.displacement()
    assert 0 < ours < theirs
    with teacher.weights() as model:
        moved = model(IDS).logits
    assert not torch.allclose(moved, base(IDS).logits, atol=1e-6)
    assert trainable(student) == before


def test_displacement_is_the_norm_of_the_product(student):
    teacher = EmaAdapterTeacher(student, Ema(decay=0.0))
    move(student, 0.1)
    teacher.update(1)
    total = 0.0
    for name, parameter in student.named_parameters():
        if "lora_A.default" in name:
            b = dict(student.named_parameters())[name.replace("lora_A", "lora_B")]
            total += float((b @ parameter).detach().square().sum())
    assert teacher.displacement() == pytest.approx((total**0.5, total**0.5), rel=1e-4)


def test_full_teacher_stays_or_follows(tiny_model):
    def load():
        return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    student = load()
    frozen, following = FullTeacher(student, load(), None), FullTeacher(student, load(), Ema(decay=0.9, every_steps=2))
    start = {name: value.clone() for name, value in student.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    frozen.update(2)
    following.update(1)
    with following.weights() as model:
        assert all(torch.equal(value, start[name]) for name, value in model.named_parameters())
    following.update(2)
    with frozen.weights() as model:
        assert all(torch.equal(value, start[name]) for name, value in model.named_parameters())
    with following.weights() as model:
        for name, value in model.named_parameters():
            torch.testing.assert_close(value, start[name] + 0.1)
    assert frozen.displacement() is None
    ours, theirs = following.displacement()
    assert ours / theirs == pytest.approx(0.1, rel=1e-4)


def test_a_float32_shadow_keeps_what_bfloat16_loses():
    parameter = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    shadow = Shadow({"w": parameter}, decay=0.98)
    naive = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(0.03125)
    for _ in range(50):
        shadow.update()
        naive.mul_(0.98).add_(parameter.detach(), alpha=0.02)
    expected = 1 + 0.03125 * (1 - 0.98**50)
    assert float(shadow.values["w"][0]) == pytest.approx(expected, abs=1e-5)
    assert abs(float(naive[0]) - expected) > 1e-3


def test_a_state_of_another_model_is_refused(student):
    teacher = EmaAdapterTeacher(student, Ema())
    with pytest.raises(ValueError, match="other trainable parameters"):
        teacher.restore({"other": torch.zeros(1)})
