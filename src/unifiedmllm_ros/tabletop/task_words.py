"""The words that requests for pictures, videos, sounds and edits are made of, and who holds them.

What is asked for is composed of these lists, so that the vocabulary stays small while the
compositions are many. A share of the compositions is held out: `held_out` decides by the words
alone, and training never draws one that it names.
"""

from __future__ import annotations

import zlib
from random import Random

from unifiedmllm_ros.tabletop.lexicon import article

HELD_OUT_SHARE = 5
"""One composition in so many is for testing only."""

ATTEMPTS = 50


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace('\n', '|').split('|') if part.strip())


NEW_THINGS = _list(
    """banana | apple | lemon | pear | candle | lamp | clock | vase | jar | flower | teapot | egg
    cake | carrot | potato | onion | hammer | phone | key | ball | toy car | teddy bear | pencil
    shoe | hat | sponge | bell | plant | coin | tomato | sandwich | slice of pizza | glass of water
    birthday cake | green apple | red ball | yellow flower | blue vase | small lamp"""
)
"""Things that edits bring into the picture."""

COLOURS = _list(
    'red | blue | green | yellow | orange | purple | pink | black | white | grey | brown | silver'
)

_LOOKS = _list(
    """darker | brighter | warmer | colder | sharper | softer | black and white | sepia | night
    foggy | rainy | snowy | sunny | more colourful | less colourful | vintage | dramatic | dreamy
    look old | look new | look like winter | look like summer | look like autumn | look like spring
    look like a painting | look like a cartoon | look like a pencil sketch | look like a photo
    look like an oil painting | look like a watercolour | look like a comic | look like a film
    look like it is made of paper | look like it is made of wood | look like it is made of glass
    look like a dream | look like a video game | look like a postcard | look like sunset"""
)
_STYLES = _list(
    """a painting | a cartoon | a watercolour | an oil painting | a pencil sketch | a comic
    a winter scene | a summer scene | a night scene | a mosaic | a postcard | pixel art | a poster
    a black and white photo | an old photo | a drawing | a stormy scene | a christmas scene"""
)
_CHANGES = _list(
    """add snow | add rain | add fog | add sunshine | add shadows | add a rainbow | add stars
    blur the background | change the light to evening | change the light to morning
    turn the lights off | turn the lights on | raise the contrast | lower the contrast
    make the background white | make the background blue | make the background black
    replace the background with a forest | replace the background with a beach
    replace the background with a garden | remove the noise | remove the shadows"""
)

_SUBJECTS = _list(
    """cat | dog | horse | bird | fox | bear | elephant | rabbit | robot | dragon | child | woman
    man | old man | farmer | pirate | astronaut | castle | house | tree | boat | ship | train | car
    bicycle | balloon | lighthouse | mountain | river | flower | snowman | tiger | lion | frog
    butterfly | penguin | whale | owl | cow | sheep"""
)
_KINDS_OF = _list(
    'small | big | white | black | red | blue | golden | sleepy | happy | old | young | wild'
)
_PLACES = _list(
    """on a sofa | on a beach | in the snow | in a forest | in a garden | at night | at sunset
    under a tree | on a hill | in a kitchen | in the rain | on the moon | in space | by a lake
    in a city street | in a field of flowers | in front of a house | on a roof | under water
    in a library | on a mountain | at the window | in the desert | in the fog"""
)
_STYLED = _list(
    """in watercolour | as a cartoon | as an oil painting | in black and white | as a pencil sketch
    in the style of a comic"""
)
_ACTIONS = _list(
    """running | sleeping | jumping | dancing | walking | swimming | eating | looking around
    turning around | flying | waving | playing with a ball | singing | climbing up | falling down"""
)
_ANIMATE = _list(
    """cat | dog | horse | bird | fox | bear | elephant | rabbit | robot | dragon | child | woman
    man | pirate | astronaut | penguin | tiger | lion | frog | owl"""
)
_MOTIONS = _list(
    """the camera moves to the left | the camera moves to the right | the camera zooms in
    the camera zooms out | the camera flies over the table | the camera circles the table
    the camera moves up | the camera moves down | the light gets darker | the light gets brighter
    the sun goes down | the sun comes up | everything starts to float | everything shakes
    the objects begin to dance | the objects turn around | the objects fall over | steam rises
    the objects roll away | rain falls on the table | snow falls on the table | leaves fall
    a hand reaches for the table | a cat walks over the table | a ball rolls over the table
    the wind blows | smoke drifts by | bubbles rise | confetti falls | the table spins"""
)
_PACES = ('', '', ' slowly', ' quickly', ' smoothly')
_SOUNDS = _list(
    """rain | thunder | wind | waves | a river | a fire | a clock | a bell | a train | a car | a dog
    a cat | a horse | a bird | birds | an owl | a crowd | a kettle | a door | a siren | a drum
    a guitar | a piano | a flute | footsteps | a helicopter | an engine | glass | frogs | bees"""
)
_SOUNDING = _list(
    """in the distance | on a tin roof | in a forest | at night | in a big hall | in the city
    under water | in a kitchen | at the sea | in the morning | behind a wall | in a tunnel
    in a small room | far away | close by | getting louder | getting quieter"""
)

_DEEDS = _list(
    """wash the dishes | cook dinner | open the window | close the door | call my mother
    drive me home | book a flight | send an email | play chess with me | buy some bread
    clean the floor | dance | make me a coffee | turn on the radio | switch off the lights
    fly to the moon | sing a song | pay my bills | walk the dog | charge the battery
    go to the shop | order a pizza | run a mile
    set an alarm | write me a poem | do my homework | move the table | lift the chair | jump
    water the plants | iron my shirt | read me a story | order a taxi | make me a sandwich
    make me some tea | make the bed | make a phone call | bake a cake | boil an egg | feed the cat
    feed the birds | walk the cat | take me to the station | bring me to the city | call a doctor
    call the police | send a letter | write a book | write an email to my boss | buy me a car
    buy a ticket | book a room | book a table for two | go home | go to sleep | go for a walk
    run to the shop | swim to the boat | climb the tree | catch the train | drive the car
    fly a kite | ride a horse | play the piano | play football with me | learn french
    teach me to dance | tell me a joke | sing me to sleep | wake me up | turn up the heating
    turn off the oven | switch on the lamp | lock the door | ring the bell | fill the kettle
    empty the fridge | paint the house | cut the grass | fold the shirts | repair my phone
    charge my phone | print the letter | shake my hand | clap your hands | stand up | sit down"""
)
_CHORES = _list(
    'wash | clean | open | close | fix | carry | lift | push | sell | buy | burn | hide | kick'
)
_CHORE_THINGS = _list(
    """the dishes | the window | the door | the floor | the chair | the car | the garden | the shirt
    the letter | the radio | the battery | the fridge | the oven | the bed | the guitar
    the bicycle | the house | the boat | some bread | a new phone"""
)

_SECRETS = _list(
    """what time it is | what the weather is like | who won the match | what day it is today
    who the president is | how old i am | where i live | what is in the next room | my name
    how much this costs | what the mug weighs | who put this here | when the shop opens
    what happened yesterday | what is behind the wall | the capital of france | my phone number
    how hot it is outside | who owns the book | the price of gold"""
)
_FACTS = _list(
    """who owns {} | what {} weighs | how much {} costs | where {} was made | who made {}
    how old {} is | who sold {} | when {} was bought | what {} is worth | who broke {}"""
)
_FACT_THINGS = _list(
    """the mug | the bowl | the book | the plate | the bottle | the can | the box | the basket
    the house | the car | this | the table | the tray | the pan"""
)

_CHORES_DONE = tuple(f'{verb} {thing}' for verb in _CHORES for thing in _CHORE_THINGS)
_FACTS_ASKED = tuple(fact.format(thing) for fact in _FACTS for thing in _FACT_THINGS)

_LISTS = (_LOOKS, _STYLES, _CHANGES, _SUBJECTS, _KINDS_OF, _PLACES, _STYLED, _ACTIONS, _ANIMATE,
          _MOTIONS, _SOUNDS, _SOUNDING, NEW_THINGS, COLOURS)  # fmt: skip
WORDS = tuple(sorted({word for words in _LISTS for phrase in words for word in phrase.split()}))
"""The single words that arguments are made of; only compositions of them are held out."""
_DONE_AND_SAID = ' '.join((*_DEEDS, *_SECRETS, *_CHORES, *_CHORE_THINGS))
ANY_WORDS = tuple(sorted({*WORDS, *_DONE_AND_SAID.split()}))
"""Single words of all the lists, those of no argument too."""


def deed(rng: Random, split: str) -> str:
    """What no expert does: a deed in the world; for testing a held-out one."""
    chore = rng.random() < 0.5
    return _drawn(_CHORES_DONE if chore else _DEEDS, rng, split)


def secret(rng: Random, split: str) -> str:
    """What no picture shows; for testing a held-out one."""
    return _drawn(_FACTS_ASKED if rng.random() < 0.5 else _SECRETS, rng, split)


def _drawn(words: tuple[str, ...], rng: Random, split: str) -> str:
    return rng.choice([w for w in words if held_out(w) == (split == 'test')])


def held_out(words: str) -> bool:
    """Whether a composition is for testing only, by its words."""
    return zlib.crc32(words.encode()) % HELD_OUT_SHARE == 0


def composed(kind: str, rng: Random, split: str) -> str:
    """A composition: `gen`, `vidgen`, `imgvid`, `audgen` or `edit`; for testing a held-out one."""
    for _ in range(ATTEMPTS):
        words = _MAKERS[kind](rng)
        if held_out(words) == (split == 'test'):
            return words
    raise AssertionError(f'no composition of {kind} for {split}: lists are too short')


def new_thing(rng: Random, split: str, reference: str) -> str:
    """A thing to bring in, given what it is to stand beside or for; some pairs are held out."""
    choices = [t for t in NEW_THINGS if held_out(f'{t}/{reference}') == (split == 'test')]
    return rng.choice(choices or NEW_THINGS)


def _edit(rng: Random) -> str:
    dice = rng.random()
    if dice < 0.5:
        return f'make it {rng.choice(_LOOKS)}'
    return f'turn it into {rng.choice(_STYLES)}' if dice < 0.7 else rng.choice(_CHANGES)


def _gen(rng: Random) -> str:
    subject = rng.choice(_SUBJECTS)
    if rng.random() < 0.4:
        subject = f'{rng.choice(_KINDS_OF)} {subject}'
    tail = rng.choice(_PLACES)
    if rng.random() < 0.2:
        tail = f'{tail} {rng.choice(_STYLED)}'
    return f'{article(subject)} {tail}'


def _vidgen(rng: Random) -> str:
    subject = rng.choice(_ANIMATE)
    if rng.random() < 0.3:
        subject = f'{rng.choice(_KINDS_OF)} {subject}'
    return f'{article(subject)} {rng.choice(_ACTIONS)} {rng.choice(_PLACES)}'


def _imgvid(rng: Random) -> str:
    return f'{rng.choice(_MOTIONS)}{rng.choice(_PACES)}'


def _audgen(rng: Random) -> str:
    sound = rng.choice(_SOUNDS)
    return sound if rng.random() < 0.2 else f'{sound} {rng.choice(_SOUNDING)}'


_MAKERS = {
    'edit': _edit,
    'videdit': _edit,
    'gen': _gen,
    'vidgen': _vidgen,
    'imgvid': _imgvid,
    'audgen': _audgen,
}
