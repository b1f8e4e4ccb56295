"""Seeds of choices: the first has the request's, the others hashes that never change."""

from services.gateway.http_face.seeds import seed_of_choice


def test_the_first_choice_has_the_requests_seed() -> None:
    assert seed_of_choice(2**64 - 1, 0) == 2**64 - 1


def test_the_others_have_seeds_that_old_answers_were_made_with() -> None:
    seeds = [seed_of_choice(7, index) for index in range(1, 4)]
    assert seeds == [14818979533484651488, 4504606891059362275, 3405383674353699258]


def test_seeds_differ_by_request_and_choice() -> None:
    seeds = {seed_of_choice(seed, index) for seed in range(50) for index in range(1, 20)}
    assert len(seeds) == 50 * 19
    assert all(0 <= seed < 2**64 for seed in seeds)
