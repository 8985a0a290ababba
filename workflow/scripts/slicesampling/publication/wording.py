"""How numbers and sentences are put together; it imports nothing, so that every job may import it."""


def join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
