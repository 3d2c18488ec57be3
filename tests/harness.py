"""Tasks of lm-evaluation-harness on local files, for tests without a network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def write_task(folder: Path, name: str, rows: Sequence[Mapping], **settings) -> str:
    """A task and its data as files of a folder; returns the name of the task."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
        **settings,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return name


def choices_task(folder: Path, name: str, rows: Sequence[Mapping]) -> str:
    """Multiple choice; rows hold prompt, choices, and the index of the answer."""
    return write_task(
        folder,
        name,
        rows,
        output_type="multiple_choice",
        doc_to_text="{{prompt}}",
        doc_to_choice="{{choices}}",
        doc_to_target="{{answer}}",
        target_delimiter="",
        metric_list=[{"metric": "acc", "aggregation": "mean"}],
    )


def rolling_task(folder: Path, name: str, texts: Sequence[str]) -> str:
    """Perplexity of whole texts."""
    return write_task(
        folder,
        name,
        [{"text": text} for text in texts],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
    )


def generate_task(folder: Path, name: str, prompts: Sequence[str], **options) -> str:
    """Greedy continuations up to a stop sequence."""
    return write_task(
        folder,
        name,
        [{"prompt": prompt, "target": "happiness"} for prompt in prompts],
        output_type="generate_until",
        doc_to_text="{{prompt}}",
        doc_to_target="{{target}}",
        generation_kwargs={"until": ["."], "max_gen_toks": 12, **options},
        metric_list=[{"metric": "exact_match"}],
    )


def answers(found: Mapping[str, Any], task: str) -> list[Any]:
    """What the model answered to every request of a task, in order."""
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    return [request for sample in samples for request in sample["filtered_resps"]]


def run(model: Any, folder: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """Evaluate tasks of a folder, without what `simple_evaluate` asks the machine."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    loaded = manager.load(list(tasks))["tasks"]
    return evaluate(lm=model, task_dict=loaded, log_samples=True, bootstrap_iters=0)
