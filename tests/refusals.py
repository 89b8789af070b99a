"""What a message about a bad argument must hold."""

import re

import pytest


def refuse(error, name, required, given, call):
    """The call fails with the error and a message that names, requires and cites."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert f"`{name}`" in message
    assert re.search(required, message), f"what is required ({required}) is not in: {message}"
    assert re.search(rf"got .*({given})", message), f"what was given ({given}) is not in: {message}"
