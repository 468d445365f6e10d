"""The choice of which lost face is which of those found: as good as any."""

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from tddfa_ros.core.reunion import _least_costly

IMPOSSIBLE = 1e6


@hypothesis.given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
        lambda shape: arrays(float, shape, elements=st.floats(0, 50) | st.just(IMPOSSIBLE))
    )
)
def test_no_choice_costs_less(costs):
    rows, columns = _least_costly(costs)
    assert len(rows) == len(set(rows)) == len(set(columns)) == min(costs.shape)
    best_rows, best_columns = linear_sum_assignment(costs)
    np.testing.assert_allclose(
        costs[rows, columns].sum(), costs[best_rows, best_columns].sum(), atol=1e-6
    )
