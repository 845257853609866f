"""What computations are called and how they compute, in English and Chinese: one table each."""

from __future__ import annotations

from collections.abc import Mapping

from cohortium.sdk.language import Words

COMPUTATIONS: Mapping[str, Words] = {
    "causal.propensity": Words("Propensity score weighting", "倾向评分加权"),
    "evaluate.model": Words("Evaluation of prediction models", "预测模型评价"),
    "glm": Words("Generalised linear model", "广义线性模型"),
    "models.meta": Words("Two-stage meta-analysis of a model", "两阶段 Meta 分析（模型）"),
    "models.elastic_net": Words("Elastic net", "弹性网络回归"),
    "missing.mice": Words("Multiple imputation by chained equations", "链式方程多重填补"),
    "missing.pattern": Words("Missing values", "缺失值"),
    "models.mixed": Words("Linear mixed model", "线性混合模型"),
    "models.multinomial": Words("Multinomial logistic regression", "多分类 logistic 回归"),
    "models.negative_binomial": Words("Negative binomial model", "负二项回归模型"),
    "models.ordinal": Words("Ordinal regression", "有序分类回归"),
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
    "stats.meta": Words("Two-stage meta-analysis of an effect", "两阶段 Meta 分析（组间效应）"),
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
    "causal.propensity": Words(
        "Logistic propensity score; means weighted by arm; covariance by the sandwich of the "
        "stacked estimating equations from pooled sums; ratios by the delta method.",
        "以 logistic 模型估计倾向评分；各组均值按权重计算；"
        "协方差由汇总的堆叠估计方程夹心估计得到；比值采用 delta 法。",
    ),
    "evaluate.model": Words(
        "From the pooled numbers of persons with and without the event at each score; DeLong's "
        "standard errors of areas; logistic recalibration; Wilson's limits of shares.",
        "由汇总的各评分点事件与非事件人数计算；曲线下面积的标准误为 DeLong 法；"
        "校准采用 logistic 再校准；比例的置信区间为 Wilson 法。",
    ),
    "glm": Words(
        "Maximum likelihood by iteratively reweighted least squares on the pooled score and "
        "information; Wald intervals and tests.",
        "基于各机构汇总的得分与信息矩阵，采用迭代加权最小二乘法求最大似然估计；"
        "置信区间与检验为 Wald 法。",
    ),
    "models.meta": Words(
        "Each institution fitted the model to its own persons; coefficients combined with inverse "
        "variances, as a fixed effect and with random effects between institutions.",
        "各机构用本机构人员拟合模型；系数按逆方差加权，以固定效应和机构间随机效应合并。",
    ),
    "models.elastic_net": Words(
        "Minimum of the pooled log-likelihood loss with the penalty of the elastic net; "
        "cross-validated over folds of the pooled persons.",
        "在汇总对数似然损失上加弹性网络惩罚求最小值；以汇总人群分折作交叉验证。",
    ),
    "missing.mice": Words(
        "Each variable imputed in turn from all others, with parameters drawn given the pooled "
        "sums; the model fitted to each completed data set and pooled by Rubin's rules (degrees "
        "of freedom: Barnard & Rubin).",
        "以汇总统计量的后验抽取参数，依次由其余变量填补各变量；对每个填补后的数据集拟合模型，"
        "按 Rubin 规则合并（自由度：Barnard-Rubin 法）。",
    ),
    "missing.pattern": Words(
        "Persons who lack each variable, and counted by what they lack together; small cells are "
        "withheld or given together.",
        "统计各变量缺失人数及缺失模式；小频数单元格予以隐匿或合并给出。",
    ),
    "models.mixed": Words(
        "Maximum of the (restricted) likelihood, from each institution's means and the pooled "
        "products of distances from them; Wald intervals and tests.",
        "由各机构均值及汇总的机构内离均差积和求（限制性）似然的最大值；置信区间与检验为 Wald 法。",
    ),
    "models.multinomial": Words(
        "Maximum likelihood by Newton's method on the pooled score and information; Wald intervals "
        "and tests; likelihood-ratio test against the model without covariates.",
        "基于各机构汇总的得分与信息矩阵，以牛顿法求最大似然估计；置信区间与检验为 Wald 法；"
        "与无协变量模型作似然比检验。",
    ),
    "models.negative_binomial": Words(
        "Maximum likelihood by Newton's method; Wald tests.", "以牛顿法求最大似然估计；Wald 检验。"
    ),
    "models.ordinal": Words(
        "Cumulative link model: maximum likelihood by Newton's method on the pooled score and "
        "information of thresholds and coefficients; Wald intervals and tests; with the link "
        "logit, proportional odds by Brant's test.",
        "累积联结模型：基于各机构汇总的得分与信息矩阵，以牛顿法求阈值与系数的最大似然估计；"
        "置信区间与检验为 Wald 法；联结为 logit 时，以 Brant 检验考察比例优势假定。",
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
    "stats.meta": Words(
        "Each institution computed the effect on its own persons; effects combined with inverse "
        "variances, as a fixed effect and with random effects between institutions.",
        "各机构用本机构人员计算效应；效应按逆方差加权，以固定效应和机构间随机效应合并。",
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
