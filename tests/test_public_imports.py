"""What users import stays: names once public or shown in the documents still resolve."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "contrans": """
        ConceptVector HiddenStates LM LinearMap NoControl PairedStates PromptPairs Site
        Steer UnsupportedModelError __version__ collect collect_pairs compose
        concept_vector data diagnose evaluate fit_linear_map library load load_model
        logistic_direction mean_difference minimum_norm move_directions pair_layers
        principal_direction random_like reliability residual_norms run_transplant save
        transplant whitened_difference zoo
    """,
    "contrans.ab": "Arm Comparison Outcome compare_ab",
    "contrans.checks": """
        Case Report Suite SuiteError parse_suite read_suite run_suite to_json to_junit
        to_markdown
    """,
    "contrans.data": """
        Concept Corpus EMOTIONS Item PackInfo TaskSpec catalogue_of_packs check_disjoint
        concepts load_concept load_corpus overlapping pack pack_info read_pairs
    """,
    "contrans.evaluation": """
        ChoicesTask ContinuationsTask EmotionTask Interval LikelihoodTask Measurement
        Perplexity Results Row Task bootstrap evaluate make_task named_task
        paired_difference paper_emotion_task perplexity
    """,
    "contrans.evaluation.lm_eval": "HarnessLM",
    "contrans.evaluation.scoring": """
        continuation_ids score_continuations score_continuations_under
    """,
    "contrans.export.gguf_model": "write_model",
    "contrans.export.llama_cpp": "steered",
    "contrans.export.lm_eval": "read_steering_file write_steering_file",
    "contrans.export.neighbours": """
        from_repeng from_steering_vectors read_pt read_repeng read_steering_vectors
        to_repeng to_steering_vectors write_repeng write_steering_vectors
    """,
    "contrans.library": """
        Added Entry Library Moved Problem Removed default_root draw file_named
        is_reference main_file named pin prune resolve resolve_pairs
    """,
    "contrans.zoo": "export is_zoo names path root tokenizer_path",
}
"""Names by module, as the first release had them."""
SHOWN = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_resolve(module):
    found = import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("module", ["contrans", "contrans.data", "contrans.library"])
def test_a_lazy_face_lists_its_names(module):
    found = import_module(module)
    assert set(PUBLIC[module].split()) <= set(dir(found)) & set(found.__all__)


def imports(text: str) -> list[str]:
    """The imports of contrans in the Python blocks of a document."""
    found = []
    for block in re.findall(r"^```python\n(.*?)^```", text, re.S | re.M):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                line = ast.unparse(node)
                found += [line] if re.search(r"\bcontrans\b", line) else []
    return found


def test_imports_shown_in_documents_work():
    lines = {line for path in SHOWN for line in imports(path.read_text("utf-8"))}
    assert len(lines) >= 5
    for line in sorted(lines):
        exec(line, {})


def test_modules_named_in_documents_exist():
    named = {
        found
        for path in SHOWN
        for found in re.findall(
            r"`(contrans(?:\.[a-z_]+)+)(?=[`(])", path.read_text("utf-8")
        )
    } - {"contrans.json"}
    assert "contrans.ab.compare_ab" in named
    for full in sorted(named):
        module, _, name = full.rpartition(".")
        try:
            import_module(full)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), name), full
