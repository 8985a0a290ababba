"""Laws of annotators: what cannot be answered is refused."""

import pandas as pd
import pytest
from pools import make_pool
from slicesampling import UserError
from slicesampling.answers.annotators import annotate, annotate_volumes


def test_a_query_for_what_is_known_or_unknown_is_refused() -> None:
    reference = make_pool(3)[["volume", "slice", "structure"]]
    ledger = annotate_volumes(reference, ["v1"])
    for volume, index, message in (("v1", 0, "annotated already"), ("v2", 999, "not in the data pool")):
        query = pd.DataFrame({"volume": [volume], "slice": [index], "score": [0.0], "rank": [0]})
        with pytest.raises(UserError, match=f"slice {index} of volume {volume} is .*{message}"):
            annotate(ledger, query, reference, 1)
