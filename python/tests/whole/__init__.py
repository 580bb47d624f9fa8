import pytest

# Its assertions say what differs, as those of tests do.
pytest.register_assert_rewrite(f"{__name__}.reverse_text")
