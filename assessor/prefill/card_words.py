"""The words of model cards: which heading, label or sentence speaks to which key.

As Mitchell et al. 2019 (arXiv:1810.03993), Hugging Face's template and its trainer name them, with usual variants.
Names are compared as `markdown.name_of` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "purpose": "uses; use; intended use; intended uses; intended use cases; intended uses and limitations; direct use;"
    " direct uses; primary intended use; primary intended uses; use cases; purpose; intended purpose; model purpose",
    "context": "downstream use; downstream uses; context of use; deployment; deployment context; operating conditions",
    "users": "intended users; primary intended users; users; target users; audience; intended audience",
    "out_of_scope": "out of scope use; out of scope uses; out of scope use cases; out of scope; misuse;"
    " misuse and out of scope use; misuse malicious use and out of scope use; uses out of scope; prohibited uses",
    "limitations": "limitations; known limitations; bias risks and limitations; risks and limitations; known issues;"
    " limitations and bias; limitations and biases; bias and limitations; limitations and risks; caveats; risks;"
    " caveats and recommendations; failure modes; recommendations; intended uses and limitations;"
    " limitations and caveats",
    "inputs_outputs": "inputs and outputs; input and output; input output; inputs; outputs; input; output;"
    " model inputs and outputs; input format; output format; input and output format; input and output formats",
    "components": "components; system architecture; system overview; system components",
    "architecture": "model architecture; architecture; model architecture and objective; technical specifications;"
    " model type; network architecture; model structure",
    "base_model": "base model; pretrained model; finetuned from model; parent model",
    "training_data": "training data; training dataset; training datasets; datasets; dataset; data; pretraining data;"
    " training and evaluation data; fine tuning data; finetuning data; data sources; data overview",
    "preprocessing": "preprocessing; pre processing; data preprocessing; data preparation; feature engineering;"
    " data cleaning; data augmentation; augmentation",
    "evaluation_data": "testing data; test data; evaluation data; evaluation dataset; evaluation datasets;"
    " test dataset; testing data factors and metrics; training and evaluation data; validation data; test set",
    "metrics": "metrics; results; evaluation results; evaluation; performance; model performance; performance metrics;"
    " quantitative analyses; quantitative analysis; benchmarks; training results; model performance measures",
    "hyperparameters": "training hyperparameters; hyperparameters; hyper parameters; training procedure; training;"
    " training configuration; training details; training setup; model training",
    "licence": "license; licence; licensing; license information; license and terms; terms of use",
    "contact": "model card contact; contact; contact information; maintainers; support; feedback",
    "fairness": "bias; biases; fairness; bias and fairness; fairness and bias; fairness assessment; factors;"
    " relevant factors; evaluation factors; bias risks and limitations; limitations and bias; bias and limitations",
    "ethics": "ethical considerations; ethics; ethical concerns; ethics and safety; ethical aspects",
    "explainability": "model examination; interpretability; explainability; explanations; model interpretability;"
    " explainability and interpretability; interpretability and explainability",
    "energy": "environmental impact; energy; energy consumption; energy use",
    "carbon": "environmental impact; carbon emissions; carbon footprint; co2 emissions",
    "release": "version; model version; release; releases",
    "dependencies": "dependencies; requirements; software; software requirements; framework versions; frameworks",
    "monitoring": "monitoring; maintenance; model monitoring; monitoring and maintenance; post deployment monitoring",
    "sensitive_data": "sensitive data; personal data; privacy; data privacy; personal and sensitive information;"
    " sensitive information; privacy considerations",
    "change_history": "changelog; change log; version history; release notes; change history; changes",
}
"""Headings by key, as `name_of` gives them."""

LAST_RESORT: Mapping[str, str] = {
    "purpose": "model description; model summary; model overview; overview; description; summary; introduction",
    "architecture": "model description; model details; model overview",
    "contact": "model card authors; authors; model authors",
}
"""Headings whose text serves where no better section was found."""

NO_STATEMENT = (
    "how to get started with the model; how to use; usage; quickstart; quick start; getting started; installation;"
    " citation; citations; bibtex; apa; glossary; more information; table of contents; contents; acknowledgements;"
    " acknowledgments; references; model sources; demo; example; examples; example usage; inference; contributing"
)
"""Headings that belong to no key, nor to the section they stand in."""

LABELS: Mapping[str, str] = {
    "developed by": "contact",
    "shared by": "contact",
    "contact": "contact",
    "model type": "architecture",
    "language s nlp": "inputs_outputs",
    "languages": "inputs_outputs",
    "license": "licence",
    "licence": "licence",
    "finetuned from model": "base_model",
    "finetuned from": "base_model",
    "base model": "base_model",
    "repository": "source_revision",
    "version": "release",
    "model version": "release",
    "model date": "release",
}
"""Lists of details in descriptions: `**Label:** text`."""


def _by_name(table: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, names in table.items():
        for name in names.split(";"):
            found[name.strip()] = (*found.get(name.strip(), ()), key)
    return found


KEYS_BY_NAME, LAST_RESORT_BY_NAME = _by_name(NAMES), _by_name(LAST_RESORT)
NOTHING = frozenset(name.strip() for name in NO_STATEMENT.split(";"))

BOILERPLATE = (
    "more information needed",
    "carbon emissions can be estimated using the",
    "this modelcard aims to be a base template",
    "this model card has been generated automatically",
    "this is the model card of a 🤗 transformers model that has been pushed on the hub",
)
"""Sentences of templates, in small letters: a block that holds one says nothing."""
