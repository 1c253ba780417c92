"""``import qagrel_jax`` leads everywhere, and each public name is meant to be one."""

import contextlib
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import qagrel_jax

ROOT = Path(__file__).resolve().parents[2]
MODULES = [m.name for m in pkgutil.walk_packages(qagrel_jax.__path__, "qagrel_jax.")]

PUBLIC = {
    "qagrel_jax": "Conv Dense LocallyConnected agrel analysis attend attention augment backprop "
    "curriculum data environments epsilon_greedy greedy layers load_network make_network "
    "make_policy make_rule make_task make_trainer max_boltzmann networks plain policies "
    "population q_agrel random_keys recollect recurrent relearnn rules sharding softmax tasks "
    "training update_statistics weights workmate",
    "qagrel_jax.data": "DataError Dataset HostImages Progress WELL_KNOWN limit_bytes load npz "
    "validate",
    "qagrel_jax.environments": "Environment Outcome Player Steps begin forget from_gymnax "
    "from_task mnist_bandit play trial",
    "qagrel_jax.layers": "Conv Dense FEEDBACKS Initializer Layer LocallyConnected Padding "
    "as_multiplied convolve each_layer feedback_kernels he_normal locally_connect output_size "
    "with_feedback",
    "qagrel_jax.population": "Learners OnlineTrainer Packed Population Recording Settings Setup "
    "advance epsilon_greedy_from_gumbel make_online_trainer max_boltzmann_from_gumbel record start",
    "qagrel_jax.rules": "Decision RULES Rule Settled agrel amplified_prediction_error augment "
    "augment_continuous backprop broadcast converged make_rule memory node_perturbation "
    "one_step_rule q_agrel recollect reinforce relearnn reward_prediction_error stochastic_units "
    "synapses workmate",
    "qagrel_jax.tasks": "FIXATE LEFT RIGHT TASKS Task TimeStep TrialState base classification "
    "criterion curve_tracing make_task match_to_category match_to_sample probabilistic "
    "reversal_bandit saccade symbols twelve_ax twelve_ax_levels vectors vibrotactile",
    "qagrel_jax.training": "CheckpointError CorrectFunction DivergedError EpochRecord Examples "
    "Fit Learner PROTOCOLS RewardFunction StepMetrics TrainState Trainer checkpoints "
    "feedback_updates fit init_state load make_trainer new_phase overall_accuracy place save "
    "select_seeds split start train_step variables_of",
    "qagrel_jax.update_statistics": "ALL Moments Statistics exact_gradient exact_moments "
    "jackknife kernels objective_gradients of_batch pool sampled_moments statistics",
    "qagrel_jax.weights": "FORMAT load load_keras load_network optional_package save",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name].split()
    assert all(hasattr(module, public) for public in module.__all__)


def test_completion_shows_what_is_public():
    assert dir(qagrel_jax) == sorted([*qagrel_jax.__all__, "__version__"])


@pytest.mark.parametrize("name", MODULES)
def test_signatures_name_types_as_they_are_written(name):
    """Not what the names stand for, over several lines."""
    for function in vars(importlib.import_module(name)).values():
        if callable(function) and getattr(function, "__module__", None) == name:
            with contextlib.suppress(ValueError):  # what has no signature
                signature = str(inspect.signature(function))
                assert "typing.U" not in signature and "abc.Callable" not in signature, function


def test_every_package_says_what_is_public():
    packages = [name for name in MODULES if hasattr(importlib.import_module(name), "__path__")]
    assert {"qagrel_jax", *packages} == PUBLIC.keys()


def test_every_module_is_reached_by_its_name_and_hidden_by_nothing():
    code = f"""if True:
        import sys, qagrel_jax
        for name in {MODULES}:
            found = qagrel_jax
            for part in name.split(".")[1:]:
                found = getattr(found, part)
            assert found is sys.modules[name], name
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert not result.stderr


@pytest.mark.parametrize("name", qagrel_jax._MOVED)
def test_modules_answer_to_the_names_they_had(name):
    assert name not in qagrel_jax.__all__
    assert isinstance(getattr(qagrel_jax, name), ModuleType)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = qagrel_jax.nonesuch
