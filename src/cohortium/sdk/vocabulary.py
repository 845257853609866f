"""The names of tests, estimates and computations in Chinese: one table.

Results carry English names, and are shown with them where a name is not here (of a package).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cohortium.errors import InputError

Language = Literal["en", "zh"]
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Words:
    """A phrase in both languages."""

    en: str
    zh: str

    def of(self, lang: Language) -> str:
        """The phrase in this language."""
        return self.zh if lang == "zh" else self.en


def require_language(lang: str) -> None:
    """Refuse what is neither English nor Chinese.

    Raises:
        InputError: ``bad-input``.
    """
    if lang not in LANGUAGES:
        raise InputError("bad-input", f"Words are in en or zh, not {lang!r}.")


COMPUTATIONS: Mapping[str, Words] = {
    "glm": Words("Generalised linear model", "广义线性模型"),
    "models.mixed": Words("Linear mixed model", "线性混合模型"),
    "models.negative_binomial": Words("Negative binomial model", "负二项回归模型"),
    "stats.anova": Words("One-way analysis of variance", "单因素方差分析"),
    "stats.attrition": Words("Attrition by criteria", "按纳入与排除标准的筛选流程"),
    "stats.cmh": Words("Cochran-Mantel-Haenszel test", "Cochran-Mantel-Haenszel 检验"),
    "stats.correlation": Words("Correlation", "相关分析"),
    "stats.crosstab": Words("Contingency table", "列联表"),
    "stats.describe": Words("Descriptive statistics", "描述性统计"),
    "stats.kruskal": Words("Kruskal-Wallis test", "Kruskal-Wallis 检验"),
    "stats.ks": Words("Kolmogorov-Smirnov test", "Kolmogorov-Smirnov 检验"),
    "stats.levene": Words("Homogeneity of variance", "方差齐性检验"),
    "stats.mann_whitney": Words("Mann-Whitney U test", "Mann-Whitney U 检验"),
    "stats.mcnemar": Words("McNemar's test", "McNemar 检验"),
    "stats.normality": Words("Normality from moments", "基于矩的正态性检验"),
    "stats.pca": Words("Principal components", "主成分分析"),
    "stats.spearman": Words("Spearman's rank correlation", "Spearman 秩相关"),
    "stats.t_test": Words("t-test", "t 检验"),
    "survival.cox": Words("Cox proportional hazards model", "Cox 比例风险模型"),
    "survival.cumulative_incidence": Words("Cumulative incidence", "累积发生率"),
    "survival.gray": Words("Gray's test", "Gray 检验"),
    "survival.km": Words("Kaplan-Meier curves", "Kaplan-Meier 生存曲线"),
    "survival.logrank": Words("Log-rank test", "log-rank 检验"),
}
"""Names of computations, for headings."""

METHODS: Mapping[str, Words] = {
    "glm": Words(
        "Maximum likelihood by iteratively reweighted least squares on the pooled score and "
        "information; Wald intervals and tests.",
        "基于各机构汇总的得分与信息矩阵，采用迭代加权最小二乘法求最大似然估计；"
        "置信区间与检验为 Wald 法。",
    ),
    "models.mixed": Words(
        "Maximum of the (restricted) likelihood, from each institution's means and the pooled "
        "products of distances from them; Wald intervals and tests.",
        "由各机构均值及汇总的机构内离均差积和求（限制性）似然的最大值；置信区间与检验为 Wald 法。",
    ),
    "models.negative_binomial": Words(
        "Maximum likelihood by Newton's method; Wald tests.", "以牛顿法求最大似然估计；Wald 检验。"
    ),
    "stats.anova": Words(
        "F test from the pooled group sizes, means and variances.",
        "由汇总的各组例数、均值和方差计算 F 检验。",
    ),
    "stats.attrition": Words(
        "Persons who meet the criteria, counted in order.", "按顺序统计符合各项标准的人数。"
    ),
    "stats.cmh": Words(
        "Mantel-Haenszel estimate and test over the pooled strata.",
        "对汇总的分层四格表计算 Mantel-Haenszel 合并估计与检验。",
    ),
    "stats.correlation": Words(
        "From the pooled means and the pooled matrix of products.",
        "由汇总的均值与离均差积和矩阵计算。",
    ),
    "stats.crosstab": Words(
        "From the pooled table of counts; small cells and what they follow from are withheld.",
        "由汇总的频数表计算；对小频数单元格及可据以推算的单元格予以隐匿。",
    ),
    "stats.describe": Words(
        "Means and standard deviations (divisor n - 1) of the pooled data; quantiles are exact to "
        "the data's resolution or lie between released limits.",
        "均值与标准差（除数为 n - 1）由汇总数据计算；"
        "分位数精确到数据的分辨率，或位于所发布的界限之间。",
    ),
    "stats.kruskal": Words(
        "Rank test on the pooled ranks, corrected for ties.", "基于汇总秩次的秩和检验，已作结校正。"
    ),
    "stats.ks": Words(
        "Largest distance between the pooled empirical distribution functions.",
        "汇总经验分布函数之间的最大差距。",
    ),
    "stats.levene": Words(
        "Analysis of variance of the absolute deviations from the centre of the group.",
        "对各组离中心绝对偏差作方差分析。",
    ),
    "stats.mann_whitney": Words(
        "Rank test on the pooled ranks, corrected for ties.", "基于汇总秩次的秩和检验，已作结校正。"
    ),
    "stats.mcnemar": Words(
        "From the discordant cells of the pooled table of pairs.",
        "由汇总配对四格表的不一致格计算。",
    ),
    "stats.normality": Words(
        "From the pooled skewness and kurtosis; Shapiro-Wilk's test would need the records.",
        "由汇总的偏度与峰度计算；Shapiro-Wilk 检验需要个体记录，故不提供。",
    ),
    "stats.pca": Words(
        "Eigenvalues and eigenvectors of the pooled correlation or covariance matrix.",
        "对汇总的相关矩阵或协方差矩阵作特征值分解。",
    ),
    "stats.spearman": Words(
        "Product-moment correlation of the pooled mid-ranks.", "汇总平均秩次的积矩相关系数。"
    ),
    "stats.t_test": Words(
        "From the pooled group sizes, means and variances.", "由汇总的各组例数、均值和方差计算。"
    ),
    "survival.cox": Words(
        "Maximum partial likelihood by Newton's method on the pooled score and information; Wald "
        "intervals and tests.",
        "基于各机构汇总的得分与信息矩阵，以 Newton 法求偏似然最大估计；置信区间与检验为 Wald 法。",
    ),
    "survival.cumulative_incidence": Words(
        "Aalen-Johansen estimate from the pooled numbers at risk and of each event at each time; "
        "standard error by the delta method, limits on the scale of log(-log I).",
        "由各时间点汇总的在险人数与各类事件数计算 Aalen-Johansen 估计；"
        "标准误用 delta 法，置信限在 log(-log I) 尺度上计算。",
    ),
    "survival.gray": Words(
        "From the pooled numbers at risk and of each event at each time.",
        "由各时间点汇总的在险人数与各类事件数计算。",
    ),
    "survival.km": Words(
        "Kaplan-Meier estimate from the pooled numbers at risk and of events at each time; "
        "Greenwood's standard error, limits on the scale of log(-log S).",
        "由各时间点汇总的在险人数与事件数计算 Kaplan-Meier 估计；"
        "标准误用 Greenwood 公式，置信限在 log(-log S) 尺度上计算。",
    ),
    "survival.logrank": Words(
        "From the pooled observed and expected events at each time.",
        "由各时间点汇总的实际与期望事件数计算。",
    ),
}
"""How it was computed, in a footnote."""

TERMS: Mapping[str, str] = {
    # Tests
    "Student's t-test": "Student t 检验",
    "Welch's t-test": "Welch t 检验",
    "Paired t-test": "配对 t 检验",
    "One-sample t-test": "单样本 t 检验",
    "One-way analysis of variance": "单因素方差分析",
    "Welch's analysis of variance": "Welch 方差分析",
    "Levene's test": "Levene 方差齐性检验",
    "Brown-Forsythe test": "Brown-Forsythe 方差齐性检验",
    "Jarque-Bera test": "Jarque-Bera 正态性检验",
    "D'Agostino-Pearson test": "D'Agostino-Pearson 正态性检验",
    "Test of the skewness": "偏度检验",
    "Test of the kurtosis": "峰度检验",
    "Pearson's chi-square test": "Pearson 卡方检验",
    "Chi-square test with Yates' correction": "Yates 连续性校正卡方检验",
    "Fisher's exact test": "Fisher 精确检验",
    "Likelihood-ratio test": "似然比检验",
    "Tests and measures": "检验与度量",
    "Tests": "检验",
    "McNemar's test with continuity correction": "McNemar 检验（连续性校正）",
    "Cochran-Mantel-Haenszel test with continuity correction": (
        "Cochran-Mantel-Haenszel 检验（连续性校正）"
    ),
    "Exact McNemar's test": "McNemar 精确检验",
    "Breslow-Day test": "Breslow-Day 齐性检验",
    "Breslow-Day test with Tarone's correction": "Tarone 校正的 Breslow-Day 齐性检验",
    "Cochran-Mantel-Haenszel test": "Cochran-Mantel-Haenszel 检验",
    "McNemar's test": "McNemar 检验",
    "Mann-Whitney U test": "Mann-Whitney U 检验",
    "Kruskal-Wallis test": "Kruskal-Wallis 秩和检验",
    "Kolmogorov-Smirnov test": "Kolmogorov-Smirnov 检验",
    "Pearson correlation": "Pearson 相关分析",
    "Spearman correlation": "Spearman 秩相关分析",
    # Estimates and effect sizes
    "difference of means": "均值差",
    "mean of the differences": "差值均值",
    "mean difference": "均值差",
    "mean": "均值",
    "odds ratio": "比值比",
    "common odds ratio": "合并比值比",
    "risk ratio": "相对危险度",
    "risk difference": "率差",
    "rate ratio": "率比",
    "ratio of means": "均值比",
    "difference of 1 / mean": "均值倒数之差",
    "Wald test of coefficients": "系数的 Wald 检验",
    "Likelihood-ratio test of nested models": "嵌套模型的似然比检验",
    "F test of nested models": "嵌套模型的 F 检验",
    "difference": "差值",
    "correlation": "相关系数",
    "partial correlation": "偏相关系数",
    "coefficient": "回归系数",
    "Cohen's d": "Cohen's d",
    "Hedges' g": "Hedges' g",
    "Cramer's V": "Cramér's V",
    "Cramer's V (bias-corrected)": "Cramér's V（偏倚校正）",
    "conditional odds ratio": "条件比值比",
    "eta squared": "η²",
    "omega squared": "ω²",
    "epsilon squared": "ε²",
    "rank-biserial correlation": "秩二列相关系数",
    "common language effect size": "优势概率",
    # Columns and words of tables
    "variable": "变量",
    "level": "水平",
    "group": "分组",
    "n": "例数",
    "missing": "缺失",
    "sd": "标准差",
    "variance": "方差",
    "skewness": "偏度",
    "kurtosis": "峰度",
    "excess kurtosis": "超额峰度",
    "median": "中位数",
    "share": "构成比",
    "test": "检验",
    "by": "分组变量",
    "p": "P",
    "p_value": "P",
    "df": "自由度",
    "df2": "自由度 2",
    "statistic": "统计量",
    "source": "变异来源",
    "between": "组间",
    "within": "组内",
    "sum of squares": "平方和",
    "mean square": "均方",
    "term": "项",
    "estimate": "估计值",
    "std_error": "标准误",
    "conf_low": "置信下限",
    "conf_high": "置信上限",
    "odds_ratio": "比值比",
    "odds_ratio_low": "比值比下限",
    "odds_ratio_high": "比值比上限",
    "rate_ratio": "率比",
    "rate_ratio_low": "率比下限",
    "rate_ratio_high": "率比上限",
    "value": "值",
    "count": "人数",
    "largest": "最大值",
    "all": "全体",
    "exclude": "排除",
    "include": "纳入",
    "excluded": "排除人数",
    "criterion": "标准",
    "kind": "类型",
    "step": "步骤",
    # Ranks and correlations
    "Partial correlation": "偏相关分析",
    "q1": "第一四分位数",
    "q3": "第三四分位数",
    "mean_rank": "平均秩次",
    "first": "变量一",
    "second": "变量二",
    "low": "置信下限",
    "high": "置信上限",
    "component": "主成分",
    "variance_share": "方差贡献率",
    "cumulative_share": "累计方差贡献率",
    "site": "机构",
    "intercept": "随机截距",
    # Survival
    "hazard ratio": "风险比",
    "hazard_ratio": "风险比",
    "hazard_ratio_low": "风险比下限",
    "hazard_ratio_high": "风险比上限",
    "Test of proportional hazards": "比例风险假定检验",
    "Kaplan-Meier curves": "Kaplan-Meier 生存曲线",
    "Cumulative incidence": "累积发生率",
    "Gray's test": "Gray 检验",
    "events of each group": "各组事件数",
    "a smaller number of persons follows from them": "可由其推算过少的人数",
    "cause": "事件",
    "incidence": "累积发生率",
    "Log-rank test": "log-rank 检验",
    "Gehan-Breslow-Wilcoxon test": "Gehan-Breslow-Wilcoxon 检验",
    "Tarone-Ware test": "Tarone-Ware 检验",
    "Peto-Peto test": "Peto-Peto 检验",
    "hazard ratio (Peto)": "风险比（Peto 法）",
    "Persons at risk": "在险人数",
    "Survival at times": "各时间点的生存率",
    "time": "时间",
    "at_risk": "在险人数",
    "events": "事件数",
    "censored": "删失人数",
    "survival": "生存率",
    "observed": "实际事件数",
    "expected": "期望事件数",
    "after": "晚于",
    "least": "下界",
    "most": "上界",
    "too few persons had the event, or were censored, for any point of the curve": (
        "发生事件或删失的人数过少，曲线无可发布的点"
    ),
    "fewer persons had the event, or were censored, than the minimum cell size": (
        "发生事件或删失的人数少于最小单元格人数"
    ),
    "observed and expected events": "实际与期望事件数",
    "a smaller number of censored persons follows from them": "可由其推算过少的删失人数",
    # Alternatives
    "two-sided": "双侧",
    "less": "单侧（小于）",
    "greater": "单侧（大于）",
    # What was withheld
    "everybody": "全体",
    "fewer persons than the minimum cell size": "人数少于最小单元格人数",
    "withheld so that a smaller cell does not follow from the total": (
        "为防止由合计推算较小的单元格而隐匿"
    ),
    "one institution's persons alone": "仅含一家机构的人员",
    "nobody, or too few persons at each institution": "无人，或各机构人数均过少",
    "cells": "单元格",
    "margins": "边际合计",
    "tests and measures": "检验与度量",
    "they are too small, or smaller cells follow from them": "人数过少，或可由其推算较小的单元格",
    "a withheld cell would follow from them": "可由其推算被隐匿的单元格",
    "the numbers are rounded": "人数已取整",
    "Levels that nobody has are left out of the tests.": "检验不计入无人的水平。",
    "There is only one level: nothing to test.": "仅有一个水平，无可检验。",
    "An expected count is below 5: chi-square tests are approximate.": (
        "有理论频数小于 5，卡方检验仅为近似。"
    ),
    "Nobody changed: there is nothing to test.": "无人改变，无可检验。",
    "levels of too few persons are withheld": "人数过少的水平已隐匿",
    "the mean would give away a value that too few persons have": (
        "均值会泄露仅有极少数人具有的取值"
    ),
    "quantiles with too few persons on one side are withheld": "一侧人数过少的分位数已隐匿",
    "it would give away a value that too few persons have": "会泄露仅有极少数人具有的取值",
    "one follows from the other": "二者可相互推算",
    "fewer persons than the minimum cell size, or than so many variables need": (
        "人数少于最小单元格人数，或少于所需变量数要求的人数"
    ),
    "the persons differ from another number's by fewer than the minimum cell size": (
        "与另一数值的人群相差人数少于最小单元格人数"
    ),
}
"""English names in results, and their Chinese ones."""

_LIMIT = re.compile(r"^(?P<name>.+) (?P<end>low|high)$")


def say(name: str, lang: Language) -> str:
    """A name of a result in this language; one without a translation stays as it is."""
    if lang == "en":
        return name
    if (limit := _LIMIT.match(name)) is not None and limit["name"] in TERMS:
        return TERMS[limit["name"]] + ("下限" if limit["end"] == "low" else "上限")
    return TERMS.get(name, name)


def heading(computation: str, lang: Language) -> str:
    """What a computation is called in a heading."""
    words = COMPUTATIONS.get(computation)
    return computation if words is None else words.of(lang)


def method(computation: str, lang: Language) -> str | None:
    """How it computes, in one sentence; None where only its package knows."""
    words = METHODS.get(computation)
    return None if words is None else words.of(lang)


def withheld(reason: str, lang: Language) -> str:
    """One line of `Result.suppressed` in this language: a place, a colon, and the reason."""
    if lang == "en":
        return f"Not released: {reason}"
    place, colon, why = reason.rpartition(": ")
    if not colon:
        return f"未发布：{say(reason, lang)}"
    return f"未发布：{say(place, lang)}（{say(why, lang)}）"
