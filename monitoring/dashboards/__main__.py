"""``make dashboards``: write the dashboards' files anew."""

from pathlib import Path

from monitoring.dashboards.files import texts


def main() -> None:
    """Write them, in the repository that this file is of."""
    for path, text in texts(Path(__file__).parents[2]).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
