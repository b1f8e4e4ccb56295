"""The Bayesian candidate: where a Gaussian process over skip sets expects most.

    observations   sets as points of {0, 1}^B, with what each gained over the set in use
    model          Matern 5/2, observation noise 1e-2
    acquisition    upper confidence bound, mean + 2.5 deviations, over random points of [0, 1]^B
    candidate      the K largest coordinates of the best point; what is scored, and later observed,
                   is that set, not the point

scikit-learn is imported when the first proposal is made: it takes a second and 70 MB.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import Observation
from shared.speculation.skip_set import SkipSet, num_open

NOISE = 1e-2
KAPPA = 2.5
NUM_POINTS = 2048
# Proposals in the making, each of another stream.
MAX_ASKED = 8


def propose_set(options: SearchOptions, observations: Sequence[Observation], seed: int) -> SkipSet:
    """Return the set that the observations, at least one, promise most of."""
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    num_layers, num_bits = options.num_layers, num_open(options.num_layers)
    points = np.array([_bits(each.skip_set, num_layers, num_bits) for each in observations])
    gains = np.array([each.gain for each in observations])
    # Sets of one size lie within a few steps of each other: one length scale for all, not fitted.
    kernel = Matern(length_scale=(num_bits / 4) ** 0.5, nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None, normalize_y=True)
    model.fit(points, gains)
    draw = np.random.default_rng(seed)
    drawn = draw.random((NUM_POINTS, num_bits))
    mean, deviation = model.predict(drawn, return_std=True)
    best = drawn[int(np.argmax(mean + KAPPA * deviation))]
    largest = np.argsort(-best, kind="stable")[: options.num_skipped]
    return SkipSet.from_bits(sum(1 << int(bit) for bit in largest), num_layers)


def _bits(skip_set: SkipSet, num_layers: int, num_bits: int) -> list[float]:
    bits = skip_set.to_bits(num_layers)
    return [float(bits >> bit & 1) for bit in range(num_bits)]


class BackgroundProposer:
    """Makes proposals beside whoever asks: the first import alone would hold a step up.

    A proposal is asked for again and again until it is there. Those that nobody comes back for are
    dropped.
    """

    def __init__(self, options: SearchOptions) -> None:
        self._options = options
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="skip-search")
        self._asked: dict[int, Future[SkipSet]] = {}

    def __call__(self, observations: Sequence[Observation], seed: int) -> SkipSet | None:
        """Return the proposal of a seed, or None while it is in the making.

        Raises:
            Exception: whatever making it raised.
        """
        future = self._asked.get(seed)
        if future is None:
            copied = tuple(observations)
            self._asked[seed] = self._worker.submit(propose_set, self._options, copied, seed)
            if len(self._asked) > MAX_ASKED:
                self._asked.pop(next(iter(self._asked))).cancel()
            return None
        if not future.done():
            return None
        return self._asked.pop(seed).result()
