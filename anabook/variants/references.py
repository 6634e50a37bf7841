"""Where the variants come from, in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

REFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "bellec2018lsnn": "Bellec et al. (2018)",
        "bengio2013ste": "Bengio, Léonard and Courville (2013)",
        "brevitas": "Pappalardo (Brevitas)",
        "cai2017hwgq": "Cai et al. (2017)",
        "choi2018pact": "Choi et al. (2018)",
        "courbariaux2016bnn": "Courbariaux et al. (2016)",
        "darabi2018bnnplus": "Darabi et al. (2018)",
        "eshraghian2023snntorch": "Eshraghian et al. (2023)",
        "esser2016convolutional": "Esser et al. (2016)",
        "fang2021plif": "Fang et al. (2021)",
        "fang2023spikingjelly": "Fang et al. (2023)",
        "geiger2020larq": "Geiger et al. (2020)",
        "gerstner2002spiking": "Gerstner and Kistler (2002)",
        "herranz2022surrogate": "Herranz-Celotti and Rouat (2022)",
        "hinton2012lectures": "Hinton (2012)",
        "li2016twn": "Li, Zhang and Liu (2016)",
        "liu2018bireal": "Liu et al. (2018)",
        "pereznieves2021sparse": "Perez-Nieves and Goodman (2021)",
        "qin2020irnet": "Qin et al. (2020)",
        "shrestha2018slayer": "Shrestha and Orchard (2018)",
        "spallanzani2022ana": "Spallanzani, Leonardi and Benini (2022)",
        "suetake2022s3nn": "Suetake et al. (2022)",
        "wu2018stbp": "Wu et al. (2018)",
        "yin2019understanding": "Yin et al. (2019)",
        "yin2021accurate": "Yin, Corradi and Bohté (2021)",
        "zenke2018superspike": "Zenke and Ganguli (2018)",
        "zhou2016dorefa": "Zhou et al. (2016)",
    }
)
"""Citation keys of the book's bibliography, in words."""
