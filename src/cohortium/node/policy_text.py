"""What a site's policy means, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cohortium.contract.render import limit_sentences, phrases
from cohortium.disclosure.limits import Disclosure
from cohortium.node.policy import ON_TOTALS, Policy
from cohortium.node.task_rules import TaskRules

_ENGLISH: Final[Mapping[str, str]] = {
    "paused": "This site is paused: every computation is refused, whatever a contract says.",
    "running": "This site computes what its signed contracts permit, within these limits.",
    "limits": "What may come out, where a contract is not stricter:",
    "contract": "; by institution where the contract says so)",
    "between": ", ",
    "least": "A contract without these limits, or stricter ones, has its runs refused: {names}.",
    "min_sites": "A joint computation has at least {value} institutions, this one included.",
    "deny_computations": "These never run here: {names}.",
    "deny_researchers": "These researchers may not compute here: {names}.",
    "no_tasks": "What this site lends goes to no task.",
    "built_in": "What this site lends goes to built-in programs only.",
    "min_level": "What this site lends goes to tasks at {value} or above only.",
    "no_simulated": "Evidence of a simulated enclave is refused, whatever a contract says.",
    "runs": "This site takes part in at most {value} runs in any 24 hours.",
    "no_runs": "The number of runs a day is not limited.",
    "again": "The file is read before every decision; one that cannot be read allows nothing.",
}
_CHINESE: Final[Mapping[str, str]] = {
    "paused": "本机构已暂停：无论合同如何约定，一切计算均被拒绝。",
    "running": "本机构在下列限制之内，执行其所签署合同允许的计算。",
    "limits": "可以披露的内容（合同更严格的，从其约定）：",
    "contract": "；合同约定按机构计数的，从其约定）",
    "between": "、",
    "least": "合同至少应包含下列限制，否则其项下的运行一律拒绝：{names}。",
    "min_sites": "联合计算至少有 {value} 家机构参与（含本机构）。",
    "deny_computations": "下列计算在本机构一律不执行：{names}。",
    "deny_researchers": "下列研究者不得在本机构计算：{names}。",
    "no_tasks": "本机构出借的内容不提供给任何任务。",
    "built_in": "本机构出借的内容仅提供给内置程序。",
    "min_level": "本机构出借的内容仅提供给安全级别不低于 {value} 的任务。",
    "no_simulated": "模拟可信执行环境的证据一律拒绝，无论合同如何约定。",
    "runs": "本机构在任意 24 小时内最多参与 {value} 次运行。",
    "no_runs": "不限制每日运行次数。",
    "again": "每次决定之前都会重新读取该文件；无法读取时，一切均不允许。",
}
_HEAD: Final = "披露控制："


def explain(policy: Policy, language: str = "en") -> list[str]:
    """The policy's sentences, the most important first; limits are indented.

    Args:
        language: ``en`` or ``zh``.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    words = phrases(language)
    own = _CHINESE if language == "zh" else _ENGLISH
    limits = Disclosure(
        min_cell=policy.min_cell,
        floor=policy.floor,
        dominance=policy.dominance,
        **{name: getattr(policy, name) for name in ON_TOTALS},
    )
    sentences = limit_sentences(limits, words)
    if policy.by_site is None:  # the contract's affair
        sentences.remove(words.not_by_site)
    if policy.floor == "total":
        sentences[0] = sentences[0].removesuffix(")").removesuffix("）") + own["contract"]
    sentences[0] = sentences[0].removeprefix(_HEAD)  # a contract's list has no line above it
    least = [f"{name}: {v}" for name in ON_TOTALS if (v := getattr(policy, name)) is not None]
    least += ["by_site: false"] if policy.by_site is False else []
    named = (
        ("least", least),
        ("deny_computations", policy.deny_computations),
        ("deny_researchers", policy.deny_researchers),
    )
    runs = policy.max_runs_per_day
    return [
        own["paused"] if policy.paused else own["running"],
        own["limits"],
        *(f"  - {sentence}" for sentence in sentences),
        *(own[key].format(names=own["between"].join(names)) for key, names in named if names),
        own["min_sites"].format(value=policy.min_sites),
        *_of_tasks(policy.tasks, own),
        own["no_runs"] if runs is None else own["runs"].format(value=runs),
        own["again"],
    ]


def _of_tasks(rules: TaskRules, own: Mapping[str, str]) -> Iterator[str]:
    if rules.allow is False:
        yield own["no_tasks"]
        return
    if rules.allow == "built-in":
        yield own["built_in"]
    if rules.min_level != "L1":
        yield own["min_level"].format(value=rules.min_level)
    if not rules.simulated:
        yield own["no_simulated"]
