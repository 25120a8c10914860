"""A causal language model as a judge: what it gives the two answers as the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from assay.errors import ModelError
from assay.scorers import backbones
from assay.scorers.batches import DEFAULT_TOKEN_BUDGET, cut, pad
from assay.scorers.judges.asking import Answer, Question
from assay.scorers.judges.replies import LEAST_MASS

_ANSWER = "\n\nAnswer:"


class LocalJudge:
    """Asks a causal model, by the logits of its next token.

    Parameters
    ----------
    name
        Hub id or folder.
    token_budget
        Padded tokens per forward pass.
    max_length_tokens
        Longest question; one that is longer is not asked (its answer is NaN), and counted. None: what the model takes.
    """

    def __init__(
        self, name: str, *, token_budget: int = DEFAULT_TOKEN_BUDGET, max_length_tokens: int | None = None
    ) -> None:
        self.name = name
        config = backbones.load_config(name)
        self.tokenizer = backbones.load_tokenizer(name)
        try:
            self.model = AutoModelForCausalLM.from_pretrained(backbones.locate(name), dtype=torch.float32).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                "this model cannot be a judge",
                where=name,
                expected="a causal language model with its vocabulary head",
                got=str(error).splitlines()[0][:160],
            ) from error
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)
        self.token_budget = token_budget
        self.longest = max_length_tokens or backbones.window(config) or DEFAULT_TOKEN_BUDGET
        self._asked = self._too_long = self._no_answer = self._tokens = 0

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the answers; see `Judge`."""
        ids = [self._encode(question) for question in questions]
        found = [Answer(float("nan"))] * len(questions)
        short = [i for i, each in enumerate(ids) if len(each) <= self.longest]
        self._asked += len(questions)
        self._too_long += len(questions) - len(short)
        for block in cut([len(ids[i]) for i in short], self.token_budget):
            chosen = [short[int(k)] for k in block]
            self._tokens += sum(len(ids[i]) for i in chosen)
            for i, logits in zip(chosen, self._next_token([ids[i] for i in chosen]), strict=True):
                found[i] = Answer(self._log_odds(logits, questions[i].options))
        return found

    def costs(self) -> dict[str, Any]:
        """Return questions, those that were too long, those whose next token is no answer, and tokens read."""
        counts = {"asked": self._asked, "too_long": self._too_long, "no_answer": self._no_answer}
        return counts | {"tokens": self._tokens}

    def _encode(self, question: Question) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None):
            messages = [{"role": "user", "content": question.text}]
            # the answer must come next: where a template can have the model think first, it shall not
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return list(self.tokenizer(question.text + _ANSWER, verbose=False)["input_ids"])

    @torch.inference_mode()
    def _next_token(self, ids: list[list[int]]) -> torch.Tensor:
        """Return the logits of what follows each question, ``[n, vocabulary]``; no other position meets the head."""
        tokens, mask = pad(ids, self.tokenizer.pad_token_id or 0)
        last = mask.sum(dim=1) - 1
        places, of = torch.unique(last, return_inverse=True)
        out = self.model(
            input_ids=tokens.to(self.device),
            attention_mask=mask.to(self.device),
            logits_to_keep=places.to(self.device),
            use_cache=False,
        ).logits
        return out[torch.arange(len(ids)), of.to(out.device)].float().cpu()

    def _log_odds(self, logits: torch.Tensor, options: tuple[str, str]) -> float:
        chance = torch.log_softmax(logits, dim=0)
        first, second = (torch.logsumexp(chance[tokens], dim=0) for tokens in self._tokens_of(options))
        if float(torch.logaddexp(first, second).exp()) < LEAST_MASS:
            self._no_answer += 1
            return float("nan")
        return float(first - second)

    def _tokens_of(self, options: tuple[str, str]) -> tuple[list[int], list[int]]:
        """Return the tokens by which each answer can begin, with and without a space before it, and the other cannot.

        Raises
        ------
        ModelError
            If both begin alike, as where every letter or a space is a token of its own.
        """
        first, second = (
            {
                ids[0]
                for form in (option, f" {option}", option.lower(), f" {option.lower()}")
                if (ids := self.tokenizer(form, add_special_tokens=False)["input_ids"])
            }
            for option in options
        )
        if not (first - second and second - first):
            raise ModelError(
                "this model's next token does not tell its answer",
                where=self.name,
                expected=f"a tokenizer for which {options[0]!r} and {options[1]!r} begin with different tokens",
                got=f"{self.tokenizer.convert_ids_to_tokens(sorted(first & second))}, with which both begin",
                remedy="ask another model",
            )
        return sorted(first - second), sorted(second - first)
