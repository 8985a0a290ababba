"""Laws of the names of models: they come back as they were, and each model knows what it is made from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slicesampling.domain.models import INITIAL, POOL, Model, seed_and_model

names = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True).filter(lambda name: name not in (INITIAL, POOL))
models = st.builds(Model, names, st.integers(1, 99), st.booleans()) | st.sampled_from(
    [Model(INITIAL), Model(POOL, converged=True)]
)


@given(models)
def test_a_name_comes_back_as_it_was(model: Model) -> None:
    assert Model.parse(str(model)) == model
    assert Model.parse(model.ledger) == model._replace(converged=False)


@given(models, st.integers(0, 1000))
def test_the_path_of_a_model_says_its_seed(model: Model, seed: int) -> None:
    assert seed_and_model(f"results/models/seed{seed}/{model}") == (seed, model)
    assert seed_and_model(f"results/annotations/seed{seed}/{model.ledger}.tsv")[1].ledger == model.ledger


@given(st.builds(Model, names, st.integers(1, 99)))
def test_the_models_before_one_lead_to_the_initial_model(model: Model) -> None:
    steps, before = 0, model
    while before != Model(INITIAL):
        before, steps = before.previous, steps + 1
        assert before.ledger == str(before)
    assert steps == model.iteration
    with pytest.raises(ValueError, match="initial has no model before it"):
        _ = before.previous


def test_a_converged_model_carries_on_that_of_its_last_iteration_and_the_data_pools_none() -> None:
    assert str(Model.parse("uss-5-converged").begun) == "uss-5"
    assert Model.parse("uss-5").begun == Model.parse("uss-5")
    assert str(Model.parse("pool-converged").begun) == "pool-converged"


@pytest.mark.parametrize("name", ["", "uss", "uss-", "-3", "uss-x", "initial-1x", "uss-3-best"])
def test_what_is_no_name_of_a_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name must be initial, pool or such as uss-3"):
        Model.parse(name)
