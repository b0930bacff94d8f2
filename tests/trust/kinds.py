"""All kinds of attack, by name."""

from tests.trust import (
    inputs_annotations,
    inputs_archives,
    inputs_arrays,
    inputs_changes,
    inputs_csv,
    inputs_datasets,
    inputs_flags,
    inputs_pictures,
    inputs_runs,
    inputs_tables,
    kills,
)

FAMILIES = (inputs_csv, inputs_tables, inputs_pictures, inputs_arrays, inputs_datasets)
FAMILIES += (inputs_annotations, inputs_runs, inputs_changes, inputs_archives, inputs_flags)
INPUTS = {name: kind for family in FAMILIES for name, kind in family.KINDS.items()}
KILLS = kills.KINDS
