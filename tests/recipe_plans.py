"""Plans for tests: the roles of the zoo, with few texts, layers and strengths."""

from pathlib import Path
from typing import Any

import yaml

from contrans.experiments.paper.plan import load_plan

QUICK = {"grid": [0.2, 0.5], "tried": 1}


def quick_plan(folder: Path, **changes: Any) -> Path:
    """A file with every section of the zoo's plan, made quick; `changes` by field."""
    plan = load_plan("zoo").model_dump(mode="json")
    plan["title"] = "quick zoo"
    plan["choice"] |= QUICK
    plan["data"] |= {"perplexity_texts": 9, "map_texts": 160}
    plan["sizes"]["models"] = plan["sizes"]["models"][:2]
    plan["checkpoints"] = plan["checkpoints"][::3]
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan | changes))
    return path
