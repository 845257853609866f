"""The sentences of a study's report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cohortium.contract.model import Contract
from cohortium.contract.render import limit_sentences, phrases
from cohortium.core.clock import Instant
from cohortium.core.rest import Receipt
from cohortium.sdk.language import Language, Words
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.vocabulary import heading
from cohortium.version import __version__

HEADS: Final = {
    "methods": Words("Methods", "方法"),
    "results": Words("Results", "结果"),
    "limits": Words("Disclosure control", "披露控制"),
    "refusals": Words("Runs without a result", "未产生结果的运行"),
    "withheld": Words("What was withheld", "未发布的内容"),
    "evidence": Words("Evidence", "证据"),
    "none": Words("No result has been released yet.", "尚无已发布的结果。"),
    "all_released": Words("Nothing was withheld from these results.", "上述结果没有隐匿任何内容。"),
}

EARLIER: Final = Words(
    "Some results were computed under another version of the contract, which their tables name.",
    "部分结果依据该合同的其他版本计算，其表注列明所依据的版本。",
)


def facts(contract: Contract, status: str, now: Instant, lang: Language) -> list[tuple[str, str]]:
    """What the report is about."""
    names = ", ".join(site.name for site in contract.participants)
    if lang == "zh":
        return [
            ("研究", f"{contract.title}（{contract.study}）"),
            ("目的", contract.purpose),
            ("机构", names.replace(", ", "、")),
            ("合同版本", f"第 {contract.version} 版，{_state(status, lang)}"),
            ("合同摘要值", contract.digest),
            ("报告时间", f"{now:%Y-%m-%d %H:%M} UTC"),
        ]
    return [
        ("Study", f"{contract.title} ({contract.study})"),
        ("Purpose", contract.purpose),
        ("Institutions", names),
        ("Contract", f"version {contract.version}, {_state(status, lang)}"),
        ("Contract digest", contract.digest),
        ("Report made", f"{now:%Y-%m-%d %H:%M} UTC"),
    ]


def _state(status: str, lang: Language) -> str:
    return phrases(lang).values["state"].get(status, status)


def methods(contract: Contract, runs: Sequence[RunInfo], lang: Language) -> list[str]:
    """The paragraph for a paper: data, persons, computations, software."""
    used = sorted({run.computation for run in runs})
    named = [_computation(name, _version(contract, runs, name), lang) for name in used]
    noisy = any(
        entry.noise is not None and any(entry.covers(name) for name in used)
        for entry in contract.computations
    )
    texts = (_methods_zh if lang == "zh" else _methods_en)(contract, named, noisy)
    if any(run.contract_digest != contract.digest for run in runs):
        texts.append(EARLIER.of(lang))
    return texts


def _methods_en(contract: Contract, named: Sequence[str], noisy: bool) -> list[str]:
    exact = (
        "Noise was added to the sums as the contract provides, so that results are approximate."
        if noisy
        else "The results equal those of an analysis of the pooled records."
    )
    text = (
        f"Data of {len(contract.participants)} institutions were analysed jointly under the "
        f"contract “{contract.title}” ({contract.study}, version {contract.version}). No record "
        "left its institution: each computed aggregates, which were added under masks so that only "
        f"their sum became known. {exact}"
    )
    if named:
        text += f" Computations: {'; '.join(named)}."
    include, exclude = _criteria(contract)
    parts = [
        *([f"included: {'; '.join(include)}"] if include else []),
        *([f"excluded: {'; '.join(exclude)}"] if exclude else []),
    ]
    last = (
        f"Software: Cohortium {__version__}. No p value or interval is adjusted for multiple "
        "testing unless its table says so."
    )
    persons = [f"The contract's persons; {', '.join(parts)}."] if parts else []
    return [text, *persons, last]


def _methods_zh(contract: Contract, named: Sequence[str], noisy: bool) -> list[str]:
    exact = (
        "合同规定在总和中加入噪声，故所得结果为近似值。"
        if noisy
        else "所得结果与合并数据后的分析一致。"
    )
    text = (
        f"依据合同“{contract.title}”（{contract.study}，第 {contract.version} 版），"
        f"对 {len(contract.participants)} 家机构的数据进行联合分析。个体记录未离开所在机构："
        f"各机构在本地计算汇总量，加掩码求和后仅公开总和。{exact}"
    )
    if named:
        text += f"计算方法：{'；'.join(named)}。"
    include, exclude = _criteria(contract)
    parts = [
        *(["纳入标准：" + "；".join(include)] if include else []),
        *(["排除标准：" + "；".join(exclude)] if exclude else []),
    ]
    last = f"软件：Cohortium {__version__}。除表中另有说明外，P 值与置信区间均未作多重检验校正。"
    persons = [f"合同规定的研究人群。{'。'.join(parts)}。"] if parts else []
    return [text, *persons, last]


def _criteria(contract: Contract) -> tuple[Sequence[str], Sequence[str]]:
    cohort = contract.cohort
    return ((), ()) if cohort is None else (cohort.include, cohort.exclude)


def _computation(name: str, version: int | None, lang: Language) -> str:
    words = heading(name, lang)
    if lang == "zh":
        return f"{words}（{name}{'' if version is None else f' 第 {version} 版'}）"
    return f"{words} ({name}{'' if version is None else f' version {version}'})"


def _version(contract: Contract, runs: Iterable[RunInfo], name: str) -> int | None:
    if all(run.contract_digest != contract.digest for run in runs if run.computation == name):
        return None
    for entry in contract.computations:
        if entry.covers(name) and name in entry.versions:
            return entry.versions[name]
    return None


def limits(contract: Contract, lang: Language) -> list[str]:
    """What may come out, in the contract's own words; a site's policy may be stricter."""
    sentences = limit_sentences(contract.disclosure, phrases(lang))
    if lang == "zh":
        return [*(_ended(one, "。") for one in sentences), "各机构的本地政策可能更为严格。"]
    return [
        *(_ended(f"{one[0].upper()}{one[1:]}", ".") for one in sentences),
        "An institution's own policy may be stricter.",
    ]


def _ended(sentence: str, end: str) -> str:
    return sentence if sentence.endswith((".", "。")) else sentence + end


def run_line(run: RunInfo, receipt: Receipt | None, lang: Language) -> str:
    """Which run, when, and that its result was witnessed."""
    when = f"{run.submitted_at:%Y-%m-%d %H:%M} UTC"
    if lang == "zh":
        seen = (
            "收据未核验"
            if receipt is None
            else f"收据已核验：账本第 {receipt.index} 条，{len(receipt.members)} 家成员机构"
        )
        return f"运行 {run.id}，{when}；{seen}。"
    seen = (
        "its receipt was not checked"
        if receipt is None
        else f"receipt verified: entry {receipt.index} of the ledger of {len(receipt.members)} "
        "members"
    )
    return f"Run {run.id}, {when}; {seen}."


def evidence(contract: Contract, lang: Language) -> str:
    """How a reader checks the report."""
    command = f"cohortium audit export {contract.study}"
    if lang == "zh":
        return (
            "每次运行均由研究者签名，其结果的摘要已写入各机构共同见证的账本。"
            f"可用 “{command}” 导出全部证据，并用 “cohortium audit verify” 离线核验。"
        )
    return (
        "Every run was signed by its researcher, and the digest of its result stands on the ledger "
        f"that the institutions witness. “{command}” writes all evidence into one file, which "
        "“cohortium audit verify” checks offline."
    )


def refusal_heads(lang: Language) -> tuple[str, ...]:
    """Heads of the table of runs without a result."""
    if lang == "zh":
        return ("运行", "计算", "时间", "状态", "说明")
    return ("Run", "Computation", "Submitted", "Status", "What was said")


def withheld_heads(lang: Language) -> tuple[str, ...]:
    """Heads of the table of suppressions."""
    return ("运行", "计算", "原因") if lang == "zh" else ("Run", "Computation", "Not released")
