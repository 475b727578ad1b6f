"""The wordings of questions, as data: request templates and noun-phrase patterns.

Each bank holds a `train` and a `test` part. The test part is the held-out one: nothing of it is
ever drawn for training, while its words all occur in the train part, so that it measures new
arrangements and not new vocabulary. Slots: {x} a noun phrase with its determiner, {xs} a plural
one, {n} a bare noun, {ns} a bare plural, {a} a noun with its indefinite article, {y} a second noun
phrase, {rel} a relation, {colour} a colour.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Bank:
    """Templates of one request, split into those for training and those held out."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def of(self, split: str) -> tuple[str, ...]:
        """The templates that a split may use: `train` or `test`."""
        return self.test if split == 'test' else self.train


def bank(train: str, test: str) -> Bank:
    """Templates separated by bars or lines, those for training and those held out."""
    return Bank(
        *(tuple(t.strip() for t in re.split(r'[\n|]', part) if t.strip()) for part in (train, test))
    )


REQUESTS: dict[str, Bank] = {
    'one_ground': bank(
        """find {x} | where is {x}? | point at {x} | box {x} | locate {x} | show me {x}
        where's {x}? | can you find {x}? | could you show me where {x} is? | grab {x} | hand me {x}
        pick up {x} | give me {x} | look for {x} | i need {x} | i want {x} | get me {x}
        draw a box around {x} | put a box on {x} | detect {x} | where can i find {x}?
        tell me where {x} is | please pass me {x} | bring me {x} | take {x} | point out {x}
        do you know where {x} is? | i am looking for {x} | where did you see {x}?
        in the image find {x} | {x} | {x} where? | which one is {x}? | go and get {x}
        i can not find {x}, where is it? | have a look for {x} on the table | spot {x}
        now {x} | ground {x} | mark {x} with a box | give me the box of {x} | show {x}
        reach for {x} | i would like to have {x} | what is the position of {x}?
        could you point at {x} for me? | help me find {x} | find me {x} on the table
        touch {x} | move to {x} | can you see where {x} is? | let me see {x}
        where on the table is {x}? | the position of {x} please""",
        """could you find me {x}? | show me where i can find {x} | i want you to point at {x}
        {x}, can you see where it is? | please locate {x} for me | where in the image is {x}?
        can you hand me {x}? | go pick up {x} | give me a box around {x} | i need you to grab {x}
        look on the table for {x} | help me, where is {x}?""",
    ),
    'one_seg': bank(
        """segment {x} | mask {x} | cut out {x} | highlight {x} | can you segment {x}?
        give me a mask of {x} | give me the mask of {x} | outline {x} | please mask {x}
        segment {x} in the image | i need a mask of {x} | could you highlight {x}?
        show me the pixels of {x} | mark the pixels of {x} | mark every pixel of {x}
        make a mask for {x} | i want the mask of {x} | segment {x} for me | paint over {x}
        draw a mask over {x} | trace {x} | trace the outline of {x} | color in {x}
        find and segment {x} | find {x} and mask it | find {x} and cut it out
        segmentation of {x} | mask for {x} | cut {x} out of the image | can you outline {x}?
        please highlight {x} for me | get me the segmentation of {x} | shade {x}
        which pixels belong to {x}? | segmentation mask of {x} please | select {x}
        locate {x} and segment it | show me a mask of {x} | the outline of {x} please
        i want you to cut out {x} | segment out {x} | just mask {x} | now segment {x}
        have {x} segmented for me | cut {x} out as an image""",
        """could you give me a mask of {x}? | i need the pixels of {x} | please cut out {x} for me
        find {x} and highlight it | can you mask {x} for me? | draw the outline of {x}
        i want {x} segmented | show me {x} as a mask | get me a mask for {x}
        please find {x} and segment it""",
    ),
    'what_ground': bank(
        """what is {rel} {y}? | what's {rel} {y}? | what do you see {rel} {y}?
        what stands {rel} {y}? | which object is {rel} {y}? | find what is {rel} {y}
        show me what is {rel} {y} | which thing is {rel} {y}? | point at what is {rel} {y}
        what is there {rel} {y}? | tell me what is {rel} {y} | what can i find {rel} {y}?""",
        """which thing do you see {rel} {y}? | can you find what is {rel} {y}?
        what object stands {rel} {y}?""",
    ),
    'what_seg': bank(
        """segment what is {rel} {y} | mask what is {rel} {y} | cut out what stands {rel} {y}
        highlight what is {rel} {y} | mask the thing {rel} {y} | outline whatever is {rel} {y}
        segment whatever stands {rel} {y} | highlight the thing {rel} {y}""",
        """cut out whatever is {rel} {y} | outline what stands {rel} {y}""",
    ),
    'all_ground': bank(
        """find {xs} | where are {xs}? | point at {xs} | box {xs} | locate {xs} | show me {xs}
        can you find {xs}? | could you show me where {xs} are? | detect {xs} | i need {xs}
        draw boxes around {xs} | put a box on {xs} | pick up {xs} | collect {xs} | grab {xs}
        give me {xs} | look for {xs} | hand me {xs} | tell me where {xs} are | bring me {xs}
        point out {xs} | mark {xs} with boxes | i want to have {xs} | {xs} | find me {xs}
        do you see where {xs} are? | i am looking for {xs} | where on the table are {xs}?
        give me the boxes of {xs} | show {xs} | in the image find {xs} | help me find {xs}
        please get me {xs} | spot {xs} | clear away {xs} | take {xs} | have a look for {xs}""",
        """could you find me {xs}? | where in the image are {xs}? | i want you to point at {xs}
        give me boxes around {xs} | can you hand me {xs}? | please locate {xs} for me
        look on the table for {xs} | show me where {xs} are""",
    ),
    'all_seg': bank(
        """segment {xs} | mask {xs} | cut out {xs} | highlight {xs} | can you segment {xs}?
        give me a mask of {xs} | give me the masks of {xs} | outline {xs} | please mask {xs}
        segment {xs} in the image | i need masks of {xs} | could you highlight {xs}?
        show me the pixels of {xs} | mark the pixels of {xs} | make masks for {xs}
        segment {xs} for me | draw a mask over {xs} | trace {xs} | find and segment {xs}
        find {xs} and mask them | find {xs} and cut them out | masks of {xs} | mask for {xs}
        cut {xs} out of the image | can you outline {xs}? | paint over {xs} | select {xs}
        i want the masks of {xs} | which pixels belong to {xs}? | segmentation of {xs}
        locate {xs} and segment them | shade {xs} | color in {xs} | now segment {xs}""",
        """could you give me masks of {xs}? | please cut out {xs} for me | i need the pixels of {xs}
        find {xs} and highlight them | can you mask {xs} for me? | draw the outline of {xs}
        show me {xs} as masks""",
    ),
    'count': bank(
        """how many {ns} are there? | how many {ns}? | count the {ns} | count {ns}
        how many {ns} do you see? | what is the number of {ns}? | number of {ns}
        how many {ns} are on the table? | can you count the {ns}? | how many {ns} can you see?
        tell me how many {ns} there are | please count the {ns} for me | how many {ns} have we got?
        how many {ns} do we have? | how many {ns} are in the image? | count all {ns}
        i want to know how many {ns} there are | the number of {ns} please | {ns}, how many?
        give me the number of {ns} | do you know how many {ns} there are? | count up the {ns}
        how many {ns} stand on the table? | how many {ns} are here? | number of {ns} on the table?
        could you count the {ns}?""",
        """can you tell me how many {ns} there are? | how many {ns} stand here?
        i want you to count the {ns} | what number of {ns} do you see?
        count the {ns} on the table | please tell me the number of {ns}""",
    ),
    'count_seg': bank(
        """count the {ns} and segment them | how many {ns} are there? mask them
        count and mask the {ns} | how many {ns}? highlight them | count the {ns} and cut them out
        how many {ns} do you see? segment them | count and highlight all {ns}
        tell me how many {ns} there are and mask them""",
        """count the {ns} and mask them | how many {ns} do you see? highlight them""",
    ),
    'exists': bank(
        """is there {a}? | do you see {a}? | can you see {a}? | is there {a} on the table?
        do we have {a}? | any {ns} here? | is {a} there? | are there any {ns}? | have you got {a}?
        is there {a} in the image? | do you see any {ns}? | can you see any {ns} on the table?
        i wonder if there is {a} | tell me if you see {a} | is there any {n}? | got {a}?
        does the table have {a} on it? | is there {a} here? | do you see {a} anywhere?
        are there any {ns} on the table? | could there be {a} here? | have we got any {ns}?
        is there {a} somewhere? | do we have any {ns} on the table? | check if there is {a}
        tell me whether there is {a}""",
        """tell me if there is {a} on the table | can you check if there is {a}?
        do you see {a} in the image? | are any {ns} here? | is there {a} anywhere on the table?
        have you got any {ns} there?""",
    ),
    'exists_seg': bank(
        """is there {a}? if so, segment it | do you see {a}? mask it | if there is {a}, mask it
        is there {a}? cut it out | if you see {a}, segment it | any {ns} here? highlight them
        if there is {a} on the table, highlight it | do you see {a}? then segment it""",
        """if you see {a}, mask it | is there {a}? then highlight it""",
    ),
    'holds': bank(
        """is {x} {rel} {y}? | does {x} stand {rel} {y}? | do you see {x} {rel} {y}?
        tell me if {x} is {rel} {y} | {x} is {rel} {y}, right? | is it true that {x} is {rel} {y}?
        can you see if {x} is {rel} {y}? | would you say {x} is {rel} {y}?
        check whether {x} is {rel} {y} | i think {x} is {rel} {y}, is it?
        is {x} really {rel} {y}? | {x} {rel} {y}, true?""",
        """check if {x} is {rel} {y} | tell me whether {x} stands {rel} {y}
        would you say that {x} is {rel} {y}?""",
    ),
    'coloured': bank(
        """is {x} {colour}? | is the colour of {x} {colour}? | tell me if {x} is {colour}
        {x} is {colour}, right? | would you say {x} is {colour}? | check whether {x} is {colour}
        is it true that {x} is {colour}? | do you see if {x} is {colour}?""",
        """check if {x} is {colour} | {x} is {colour}, true?""",
    ),
}

RELATIONS: dict[str, Bank] = {
    'left of': bank(
        """left of | to the left of | on the left of | on the left side of | left from
        on the left hand side of""",
        """at the left side of | to the left side of""",
    ),
    'right of': bank(
        """right of | to the right of | on the right of | on the right side of | right from
        on the right hand side of""",
        """at the right side of | to the right side of""",
    ),
    'in front of': bank(
        """in front of | before | closer to the camera than | nearer to me than | closer than
        closer to us than""",
        """nearer to the camera than | closer to me than""",
    ),
    'behind': bank(
        """behind | in back of | farther away than | further from the camera than
        further back than | at the back of""",
        """farther from the camera than | further away than""",
    ),
    'next to': bank(
        """next to | beside | right next to | close to | by | at the side of | right by
        right at the side of""",
        """close by | right beside""",
    ),
    'nearest to': bank(
        """nearest to | closest to | nearest | the closest to""",
        """the nearest to""",
    ),
    'between': bank(
        """between {b} and {c} | in between {b} and {c} | between {b} and also {c}
        in the middle of {b} and {c}""",
        """in the middle between {b} and {c}""",
    ),
}
"""Wordings that stand between a noun and its reference; `between` names both references."""

RELATED: Bank = bank(
    """{n} {rel} {y} | {n} that is {rel} {y} | {n} which is {rel} {y} | {n} standing {rel} {y}
    {n} you see {rel} {y} | {n} that's {rel} {y} | {n} placed {rel} {y}""",
    """{n} that stands {rel} {y} | {n} which you see {rel} {y}""",
)

ORDERS: dict[str, Bank] = {
    'leftmost': bank(
        """leftmost {n} | {n} on the far left | {n} furthest to the left | first {n} from the left
        {n} that is the leftmost | {n} all the way to the left | left most {n}""",
        """{n} all the way on the left | {n} that is furthest to the left""",
    ),
    'rightmost': bank(
        """rightmost {n} | {n} on the far right | {n} furthest to the right
        first {n} from the right | {n} that is the rightmost | {n} all the way to the right
        right most {n}""",
        """{n} all the way on the right | {n} that is furthest to the right""",
    ),
    'second from the left': bank(
        """second {n} from the left | {n} that is second from the left | 2nd {n} from the left
        number two {n} from the left""",
        """{n} that is number two from the left""",
    ),
    'second from the right': bank(
        """second {n} from the right | {n} that is second from the right | 2nd {n} from the right
        number two {n} from the right""",
        """{n} that is number two from the right""",
    ),
    'third from the left': bank(
        """third {n} from the left | {n} that is third from the left | 3rd {n} from the left
        number three {n} from the left""",
        """{n} that is number three from the left""",
    ),
    'nearest to the camera': bank(
        """{n} nearest to the camera | closest {n} | {n} closest to the camera | nearest {n}
        {n} closest to me | front {n} | {n} that is the closest | {n} nearest to you""",
        """{n} nearest to me | {n} that is nearest to the camera""",
    ),
    'farthest from the camera': bank(
        """{n} farthest from the camera | farthest {n} | {n} furthest away | {n} at the very back
        {n} furthest from me | rear {n} | {n} that is the farthest away""",
        """{n} furthest from the camera | {n} that is farthest from me""",
    ),
}

SUPERLATIVES: dict[str, Bank] = {
    'largest': bank(
        """largest {n} | biggest {n} | {n} that is the largest | {n} that is biggest
        very largest {n} | {n} that takes up most space""",
        """{n} that is the biggest | very biggest {n}""",
    ),
    'smallest': bank(
        """smallest {n} | tiniest {n} | {n} that is the smallest | littlest {n}
        very smallest {n} | {n} that is tiniest""",
        """{n} that is the tiniest | very tiniest {n}""",
    ),
    'tallest': bank(
        """tallest {n} | {n} that is the tallest | highest {n} | {n} that stands tallest
        very tallest {n} | {n} that is highest""",
        """{n} that stands highest | {n} that is the highest""",
    ),
}

COLOURED: Bank = bank(
    """{colour} {n} | {n} that is {colour} | {colour} coloured {n} | {n} which is {colour}
    {colour} colored {n} | {n} in {colour}""",
    """{n} that is {colour} coloured | {n} which is in {colour}""",
)

ALL: Bank = bank(
    """all {ns} | all the {ns} | all of the {ns} | the {ns} | every single one of the {ns}
    each of the {ns} | all {ns} on the table | all {ns} you see""",
    """all of the {ns} you see | all the {ns} on the table""",
)
BOTH: Bank = bank(
    """both {ns} | both the {ns} | both of the {ns} | the two {ns}""", """both of the two {ns}"""
)

USE: Bank = bank(
    """{some} i can {use} | {some} to {use} | {some} you can {use} | {some} i could {use}
    {some} that i can {use} | {some} good to {use} | {some} one can {use}""",
    """{some} you could {use} | {some} that you can {use}""",
)
"""Descriptions by use; a use completes "something I can ..."."""

USES: dict[str, Bank] = {
    'drink from': bank(
        """{some} to drink out of | {some} for a hot drink | {some} you can pour coffee into
        {some} to drink my coffee from""",
        """{some} to drink my hot coffee from""",
    ),
    'drink': bank(
        """{some} for when i am thirsty | {some} for a thirsty person | {some} to fill my cup with
        {some} for breakfast to drink""",
        """{some} to drink for a thirsty person""",
    ),
    'eat': bank(
        """{some} for when i am hungry | {some} a hungry person would eat | {some} to have for lunch
        {some} that tastes good""",
        """{some} for a hungry person to eat""",
    ),
    'eat from': bank(
        """{some} to serve food in | {some} to eat out of | {some} you serve food on
        {some} i could eat my food from""",
        """{some} to eat my food out of""",
    ),
    'read': bank(
        """{some} for reading | {some} with pages to read | {some} with pages in it""",
        """{some} with pages for reading""",
    ),
    'make coffee': bank(
        """{some} to brew coffee with | {some} for making coffee | {some} i make my coffee with""",
        """{some} for making my coffee""",
    ),
    'cook with': bank(
        """{some} for cooking | {some} to cook my food in | {some} i could cook in""",
        """{some} for cooking my food""",
    ),
    'put things in': bank(
        """{some} to carry things in | {some} i can keep my things in
        {some} for keeping things""",
        """{some} for keeping my things in""",
    ),
}
"""Further descriptions for some of the uses ({some}: "something", "the thing", ...)."""

SOME: Bank = bank(
    'something | the thing | an object | the object | anything | any thing', 'any object'
)
EVERYTHING: Bank = bank('all things | all the things | all objects | the things', 'all the objects')

NEVER_SEEN: tuple[str, ...] = tuple(
    n.strip()
    for n in """hammer | scissors | banana | apple | laptop | phone | key | screwdriver
    teapot | candle | lamp | shoe | hat | lemon | pear
    toothbrush | camera | clock | pen | pencil | ball | toy car | doll | guitar | umbrella | wallet
    glove | sock | cat | dog | flower | vase | jar | bread | egg | cake | carrot | potato | onion
    stapler | ruler | tape | drill | wrench | sponge | towel | soap | pillow | mouse | keyboard
    remote control | battery | coin | watch | ring | bag | backpack | teddy bear | robot
    newspaper | glass | jug | kettle | pair of glasses""".replace('\n', '|').split('|')
    if n.strip()
)
"""Things that no scene ever holds."""

OPENINGS: tuple[str, ...] = ('please', 'hey', 'hey robot,', 'ok,', 'robot,', 'hi,', 'so', 'um,')
CLOSINGS: tuple[str, ...] = ('please', 'thanks', 'for me', 'now', 'quickly', 'pls', 'ok?')


def banks() -> dict[str, Bank]:
    """Every bank of this module by name, for checks that run over all of them."""
    named: dict[str, Bank] = {f'request {k}': b for k, b in REQUESTS.items()}
    named |= {f'relation {k}': b for k, b in RELATIONS.items()}
    named |= {f'order {k}': b for k, b in ORDERS.items()}
    named |= {f'superlative {k}': b for k, b in SUPERLATIVES.items()}
    named |= {f'use {k}': b for k, b in USES.items()}
    return named | {'related': RELATED, 'coloured': COLOURED, 'use': USE, 'all': ALL, 'both': BOTH}
