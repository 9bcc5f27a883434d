"""What becomes of random genomes of NLFS, and how fast they are checked: python benchmarks/genomes.py --seeds 0 1 2"""

import argparse
import statistics
import time

import numpy as np

from edl_jax.core import jax_settings
from edl_jax.search import nlfs
from edl_jax.search.nlfs.genomes import random_genomes
from edl_jax.search.nlfs.mutation import mutate


@jax_settings.fixed()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5, help="timings of a seed's genomes, the best of which counts")
    flags = parser.parse_args()
    shares, seconds, mutants, equal = [], [], [], []
    for seed in flags.seeds:
        rng = np.random.default_rng(seed)
        genomes = random_genomes(rng, flags.count)
        found = nlfs.check(genomes)  # compiles
        shares.append(100.0 * np.bincount(found.reason, minlength=len(nlfs.REASONS)) / flags.count)
        times = []
        for _ in range(flags.repeats):
            start = time.perf_counter()
            nlfs.check(random_genomes(np.random.default_rng(seed), flags.count))
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
        children = nlfs.check(mutate(rng, genomes.take(np.flatnonzero(found.accepted))))
        mutants.append(100.0 * children.accepted.mean())
        distance = np.linalg.norm(found.phenotype[children.accepted] - children.phenotype, axis=1)
        equal.append(100.0 * np.mean(distance <= 0.01))
    for i, reason in enumerate(nlfs.REASONS):
        print(f"{reason:<18}{_shown([share[i] for share in shares])} %")
    print(f"valid mutants of valid genomes: {_shown(mutants)} %, of which twins of the parent: {_shown(equal)} %")
    print(f"genomes drawn and checked a second: {flags.count / max(seconds):,.0f} to {flags.count / min(seconds):,.0f}")


def _shown(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):6.2f} ± {spread:.2f}"


if __name__ == "__main__":
    main()
