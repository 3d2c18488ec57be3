"""Any task of lm-evaluation-harness, steered by any control, scored with shared prefixes.

Importing this module makes the model `contrans` known to the harness:

    import contrans as ct, lm_eval
    from contrans.evaluation.lm_eval import HarnessLM

    steered = HarnessLM(ct.load_model("zoo/large"), ct.Steer(anger, strength=2.0))
    found = lm_eval.simple_evaluate(model=steered, tasks=["truthfulqa_mc1"])

Texts are cut into tokens exactly as its own `hf` model does it, so that the numbers are
comparable; log-likelihoods come from `scoring.score_continuations`, and generation from
the model's own `generate`, both with the control active. Checked against 0.4.13.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import torch

from contrans.control.steer import Steer
from contrans.core.artifacts import load
from contrans.core.types import Unit, Where
from contrans.library import file_named
from contrans.models.edits import Control, NoControl
from contrans.models.generation import plain_generation
from contrans.models.lm import LM
from contrans.models.loading import load_model
from contrans.models.scoring import score_continuations

try:
    from lm_eval.api.registry import register_model
    from lm_eval.models.huggingface import HFLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(
        f"lm-evaluation-harness is not installed or incomplete ({error}); install it: "
        'pip install "contrans[lm-eval]"'
    ) from error

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""(texts, ids of the context, ids of the continuation), as the harness hands them on."""


_Base: Any = HFLM  # its decorator hides its type


class HarnessLM(_Base):
    """A model of contrans, steered, as lm-evaluation-harness wants it.

    In Python, give an `LM` and a control. By name, as in `--model contrans
    --model_args pretrained=zoo/large,steer=anger.safetensors,strength=2,layers=4+5`,
    the other arguments say what to load.
    """

    def __init__(
        self,
        pretrained: str | LM,
        control: Control | None = None,
        *,
        steer: str | None = None,
        strength: float | None = None,
        unit: Unit = "raw",
        layers: str | int | Sequence[int] | None = None,
        positions: Where = "all",
        any_model: bool = False,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        blocks: str | None = None,
        trust_remote_code: bool = False,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        batch_size: int | str = 16,
        max_batch_size: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> None:
        """Load what is named, and check that the control fits the model.

        Args:
            pretrained: the model, or its hub id, folder or name in the zoo.
            control: what steers it; None steers by `steer`, or not at all.
            steer: a vector, the folder that `contrans transplant` wrote, or a name of
                the library.
            strength: of `steer`; None takes the one in the file, else 1.
            unit: "raw" or "relative", see `Steer`.
            layers: blocks to edit, "4+5" in an argument string; None takes all.
            positions: tokens to edit: "all", "prompt" or "generated".
            any_model: accept a vector made for other weights.
            dtype: to load in.
            device: to load on.
            revision: branch, tag or commit on the hub.
            blocks: where the blocks are, for an unknown architecture.
            trust_remote_code: run code that comes with a model.
            max_length: longest row in tokens; None takes the model's context.
            add_bos_token: as in the harness; None leaves it to the tokenizer.
            prefix_token_id: what stands before a text without context; None takes BOS.
            batch_size: prompts generated from at once.
            max_batch_size: bound where `batch_size` is "auto"; None takes 64.
            tokens_per_batch: tokens scored at once; None chooses by device.

        Raises:
            ValueError: when the control does not fit the model, or both kinds are given.
            FileNotFoundError: when there is no such model or vector.
        """
        if control is not None and steer is not None:
            raise ValueError(
                f"both a control and steer={steer!r} were given; give one of them, or "
                "compose(...) both into one control"
            )
        if steer is not None:
            control = _control(steer, strength, unit, layers, positions, any_model)
        if not isinstance(pretrained, LM):
            pretrained = load_model(
                pretrained,
                dtype=dtype,
                device_map=_device_map(device),
                revision=revision,
                blocks=blocks,
                trust_remote_code=trust_remote_code,
            )
        self.lm = pretrained
        self.control = control or NoControl()
        self.tokens_per_batch = tokens_per_batch
        with self.steered() as active:  # refuses a control that does not fit
            if active is not self.lm:
                raise ValueError(
                    f"{type(self.control).__name__} puts another model or another way of "
                    f"asking in the place of {self.lm.name!r}, which the harness would "
                    "not see; give it that model, or the instruction as the harness's own "
                    "--system_instruction"
                )
        super().__init__(
            pretrained=cast(Any, self.lm.model),
            tokenizer=copy.deepcopy(self.lm.tokenizer),  # it may be given a pad token
            max_length=max_length or self.lm.context,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            batch_size=batch_size,
            max_batch_size=max_batch_size or 64,
        )

    def steered(self) -> AbstractContextManager[LM]:
        """The context in which the control is active."""
        return self.control.on(self.lm)

    def _loglikelihood_tokens(
        self,
        requests: list[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,  # noqa: ARG002
        **_others: Any,
    ) -> list[tuple[float, bool]]:
        """(log-probability, whether greedy decoding writes it) of each continuation.

        A row longer than the context loses its beginning. As in the harness, the last
        token of a row need not fit, since nothing is read behind it.
        """
        rows = []
        for _, context, rest in requests:
            if len(rest) > self.max_length:
                raise ValueError(
                    f"a continuation of {len(rest)} tokens does not fit the context of "
                    f"{self.max_length} tokens of {self.lm.name!r}; shorten it"
                )
            row = [*context, *rest][-(self.max_length + 1) :]
            rows.append((row[: len(row) - len(rest)], list(rest)))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(rows)
        short = [i for i, (a, b) in enumerate(rows) if len(a) + len(b) <= self._most]
        bar = tqdm(
            total=len(rows),
            disable=disable_tqdm or self.rank != 0,
            desc="Running loglikelihood requests",
        )

        def show(done: int, _total: int) -> None:
            bar.update(done - bar.n)

        with bar, self.steered():
            if short:
                scores = score_continuations(
                    self.lm,
                    [rows[i] for i in short],
                    tokens_per_batch=self.tokens_per_batch,
                    progress=show,
                )
                totals, greedy = scores.total.tolist(), scores.greedy.tolist()
                for i, total, same in zip(short, totals, greedy, strict=True):
                    found[i] = (total, bool(same))
            for i in sorted(set(range(len(rows))).difference(short)):
                found[i] = self._full_row(*rows[i])
                bar.update(1)
        for (texts, _, _), answer in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    @property
    def _most(self) -> int:
        """Tokens in a row that `score_continuations` takes."""
        return self.lm.context

    @torch.no_grad()
    def _full_row(self, context: list[int], rest: list[int]) -> tuple[float, bool]:
        """A row one token longer than the context, its last token only predicted."""
        ids = torch.tensor([[*context, *rest][:-1]], device=self.lm.device)
        logits = self.lm.model(input_ids=ids, use_cache=False).logits[0, -len(rest) :]
        wanted = torch.tensor(rest, device=logits.device)
        logs = logits.float().log_softmax(-1).gather(-1, wanted[:, None])
        return float(logs.double().sum()), bool((logits.argmax(-1) == wanted).all())

    def loglikelihood_rolling(
        self, requests: "list[Instance]", disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows of the context, all in one go."""
        windows: list[Request] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        scores = self._loglikelihood_tokens(windows, disable_tqdm)
        for owner, (score, _) in zip(owners, scores, strict=True):
            totals[owner] += score
        for request, total in zip(requests, totals, strict=True):
            key = (request.args[0],)
            self.cache_hook.add_partial("loglikelihood_rolling", key, total)
        return totals

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.steered():
            return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.steered(), torch.no_grad(), plain_generation(self.lm.model):
            return super()._model_generate(*args, **kwargs)

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results about the model."""
        return {
            "model_name": self.lm.name,
            "model_fingerprint": self.lm.fingerprint,
            "model_num_parameters": self.lm.model.num_parameters(),
            "model_dtype": str(self.lm.dtype),
            "model_revision": self.lm.revision or "",
            "model_sha": "",
            "control": str(self.control),
        }


register_model("contrans")(HarnessLM)


def _device_map(device: str | None) -> str | None:
    """Where to load; the harness's default, a first GPU, only where there is one."""
    if device is not None and device.startswith("cuda"):
        return device if torch.cuda.is_available() else None
    return device


def _control(
    steer: str,
    strength: float | None,
    unit: Unit,
    layers: str | int | Sequence[int] | None,
    positions: Where,
    any_model: bool,
) -> Steer:
    """The control that the arguments of a command line say."""
    vector = load(file_named(steer, "vector"), "concept-vector")
    if strength is None:
        if unit == "relative":
            raise ValueError(
                "unit=relative needs a strength, such as strength=0.3 (30% of the stream)"
            )
        strength = float(vector.strength)
    chosen: Sequence[int] | None
    if isinstance(layers, str):
        try:
            chosen = [int(part) for part in layers.split("+")]
        except ValueError:
            raise ValueError(
                f"cannot read layers {layers!r}; write them like 24 or 4+5+6"
            ) from None
    else:
        chosen = [layers] if isinstance(layers, int) else layers
    return Steer(
        vector,
        layers=chosen,
        strength=float(strength),
        unit=unit,
        positions=positions,
        any_model=bool(any_model),
    )
