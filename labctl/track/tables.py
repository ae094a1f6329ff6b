"""Tables, kept in MLflow beside the runs that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.errors import EnvironmentProblem
from labctl.project import Project

from .store import answering, connect, shown, tracking_uri


def keep_table(project: Project, groups: Iterable[str], texts: Mapping[str, str]) -> int:
    """Attach `texts`, by file name, to the parent run of each group; return how many have it now.

    Groups that MLflow does not know, as those of a published bundle, are passed over.

    Raises:
        EnvironmentProblem: the store cannot be reached, or knows none of the groups.
    """
    uri = tracking_uri(project)
    kept = 0
    client = connect(project, uri)
    with answering(uri):
        experiments = [
            experiment.experiment_id
            for experiment in client.search_experiments(filter_string="name LIKE 'labctl/%'")
        ]
        for group in dict.fromkeys(groups):
            query = f"tags.`labctl.group` = '{group}' and tags.`labctl.kind` = 'group'"
            for parent in client.search_runs(experiments, query) if experiments else []:
                for name, text in texts.items():
                    client.log_text(parent.info.run_id, text, f"tables/{name}")
                kept += 1
    if not kept:
        raise EnvironmentProblem(
            f"MLflow store {shown(uri)} has none of the table's runs", hint="first: labctl sync"
        )
    return kept
