"""Other engines that write responses: transformers' continuous batching, and vLLM where it is installed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from assay.errors import ConfigError, ModelError
from assay.scorers.attention import attending
from assay.scorers.sampling import Sampling, up_to_the_end

#: Tokens in a page of transformers' cache, and tokens that a processor reads at once where there is no accelerator.
_PAGE, _TOGETHER = 256, 1024


def continuous(
    model: Any, begun: Sequence[Sequence[int]], ends: Collection[int], pad_id: int, sampling: Sampling, seed: int
) -> Iterator[tuple[int, list[int], bool]]:
    """Yield what `assay.scorers.sampling.by_generate` does, written by transformers' continuous batching.

    Responses that end make room for others at once, and prompts share their cache: worth it where lengths differ much.

    Raises
    ------
    ModelError
        If a response is missing: the engine reports its failures to its log only.
    """
    # not in every release of transformers that the rest works with
    from transformers import ContinuousBatchingConfig

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad_id,
        num_return_sequences=sampling.responses,
        **sampling.options(),
    )
    given: dict[str, Any] = {}
    if inner.device.type == "cpu":
        # it measures accelerators; on a processor it would take most of the memory there is
        longest = max(map(len, begun)) + sampling.max_new_tokens
        given = {
            "num_blocks": len(begun) * sampling.responses * (longest // _PAGE + 1),
            "max_batch_tokens": max(_TOGETHER, len(begun) * sampling.responses),
        }
    # it refuses attention that others registered with transformers
    with torch.no_grad(), attending(inner, "sdpa"):
        found = inner.generate_batch(
            [list(ids) for ids in begun],
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(seed=seed, **given),
            warmup=inner.device.type != "cpu",
        )
    wanted = len(begun) * sampling.responses
    failed = [each.error for each in found.values() if each.error is not None]
    if len(found) != wanted or failed:
        raise ModelError(
            "continuous batching did not write all responses",
            expected=str(wanted),
            got=f"{len(found) - len(failed)}: {failed[0]}" if failed else str(len(found)),
            remedy="--rollout.engine generate",
        )
    for number, each in enumerate(found.values()):
        yield number // sampling.responses, *up_to_the_end(each.generated_tokens, ends)


class Vllm:
    """vLLM in this process, on the same accelerator; it takes over the policy's weights before it writes.

    Parameters
    ----------
    folder
        A plain transformers folder: its architecture and its first weights.
    memory
        Share of the accelerator's memory that it may take.
    longest
        Tokens of prompt and response; None: as the model says.
    engine, options
        ``vllm.LLM`` and ``vllm.SamplingParams``; None: imported.

    Raises
    ------
    ConfigError
        If vLLM is not installed.
    """

    def __init__(
        self, folder: str, *, memory: float = 0.3, longest: int | None = None, engine: Any = None, options: Any = None
    ) -> None:
        # weights can be handed over within one process only
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if engine is None or options is None:
            try:
                from vllm import LLM, SamplingParams  # type: ignore[import-not-found,unused-ignore]
            except ImportError as error:
                raise ConfigError(
                    "vLLM is not installed",
                    where="rollout.engine",
                    expected="a vllm that fits the installed torch",
                    got=str(error),
                    remedy="pip install vllm, or --rollout.engine generate",
                ) from error
            engine, options = LLM, SamplingParams
        self.options = options
        self.engine = engine(
            model=folder, gpu_memory_utilization=memory, max_model_len=longest, skip_tokenizer_init=True, dtype="auto"
        )

    def take_over(self, model: Any) -> None:
        """Load a policy's weights as they are now, and forget what was computed with others."""
        runner = self.engine.llm_engine.model_executor.driver_worker.model_runner
        with plain_weights(model) as weights:
            runner.model.load_weights(weights)
        self.engine.reset_prefix_cache()

    def __call__(
        self,
        model: Any,
        begun: Sequence[Sequence[int]],
        ends: Collection[int],
        pad_id: int,
        sampling: Sampling,
        seed: int,
    ) -> Iterator[tuple[int, list[int], bool]]:
        """Yield what `assay.scorers.sampling.by_generate` does; draws are seeded by prompt."""
        del pad_id
        self.take_over(model)
        asked = [{"prompt_token_ids": list(ids)} for ids in begun]
        how = [
            self.options(
                n=sampling.responses,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k or -1,
                max_tokens=sampling.max_new_tokens,
                stop_token_ids=sorted(ends),
                seed=(seed + number) % 2**31,
                detokenize=False,
            )
            for number in range(len(asked))
        ]
        for number, found in enumerate(self.engine.generate(asked, how, use_tqdm=False)):
            for each in found.outputs:
                new, ended = up_to_the_end(each.token_ids, ends)
                if not ended and each.finish_reason == "stop":
                    # versions differ in whether the token that ends a response is told with it
                    new, ended = [*new, each.stop_reason if isinstance(each.stop_reason, int) else min(ends)], True
                yield number, new, ended


@contextlib.contextmanager
def plain_weights(model: Any) -> Iterator[Iterator[tuple[str, torch.Tensor]]]:
    """Give a model's parameters by the names of a plain folder; those of an adapter merged, as long as this lasts."""
    adapted = hasattr(model, "merge_adapter")
    if not adapted:
        yield ((name, own.detach()) for name, own in model.named_parameters())
        return
    model.merge_adapter()
    try:
        inner = model.get_base_model().named_parameters()
        yield ((name.replace(".base_layer", ""), own.detach()) for name, own in inner if "lora_" not in name)
    finally:
        model.unmerge_adapter()
