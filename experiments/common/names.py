"""Names of the library that the commands take: a wrong one is refused before JAX has loaded."""

RULES = ("q_agrel", "backprop")
CONTROL_RULES = ("agrel", "broadcast", "node_perturbation", "reinforce", "stochastic_units")
OF_PROBABILITIES = ("agrel", "reinforce", "stochastic_units")
REWARDS = ("right", "shuffled", "always")
POLICIES = ("greedy", "epsilon_greedy", "softmax", "max_boltzmann")
FEEDBACKS = (
    "tied",
    "kolen_pollack",
    "random",
    "sign",
    "sign_batchwise",
    "sign_fixed",
    "direct",
    "product",
)
FEEDBACK_ALIASES = {"reciprocal": "kolen_pollack", "separate": "kolen_pollack"}
FEEDBACK_INITS = ("kernel", "he")
ARCHITECTURES = ("dense", "conv", "locally_connected", "deep")
INITIALIZATIONS = ("he", "paper")
PROTOCOLS = ("clean", "paper")
LAST_BATCH = ("keep", "drop")
CURRICULA = ("off", "index", "random")
CURRICULUM_OUTPUTS = ("open", "masked")
TRAINED_LAYERS = ("all", "output")
SEEDS_BY = ("auto", "vmap", "map")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop", "lion")
