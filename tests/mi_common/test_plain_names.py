"""Names of the user's in figures: they are no formulas, and any letters can be drawn."""

import pytest
from matplotlib import pyplot as plt

from mi_common.plots import plain, save_figure

NAMES = [r"$\foo$", "$a$ and $b", "鳥", "a\nb", "x" * 3000, "_", "$$", "\\", "%"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_drawn_without_a_warning(tmp_path, name, recwarn):
    figure, axes = plt.subplots()
    axes.set_title(plain(name))
    axes.set_xticks([0], [plain(name)])
    save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000 and not len(recwarn)


def test_long_names_are_cut_and_others_kept():
    assert plain("cat") == "cat" and plain("x" * 41) == "x" * 39 + "…"
    assert plain("5$ and 6$") == r"5\$ and 6\$"
