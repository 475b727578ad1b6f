"""The wordings of requests that refer back to an earlier turn of the same dialogue.

Banks as in `phrasings`; {x} is a thing with its determiner, {new} a new thing with its article,
{c} a colour, {rel} a relation, {e} an instruction, {a}, {n} and {ns} a noun as there.
"""

from __future__ import annotations

from unifiedmllm_ros.tabletop.phrasings import Bank, bank

FOLLOW_UPS: dict[str, Bank] = {
    'it_ground': bank(
        """where is it? | show me where it is | box it | put a box on it | locate it | point at it
        where exactly is it? | and where is it? | mark it with a box | find it again
        draw a box around it | where was it again?""",
        """show me where it is again | and where exactly is it? | draw a box on it""",
    ),
    'it_seg': bank(
        """segment it | mask it | cut it out | highlight it | now segment it | give me its mask
        outline it | can you segment it? | please mask it | and its mask? | i need its mask
        segment that one | mask that | and now cut it out | show me its pixels | trace it""",
        """now mask it | can you cut it out? | please segment that one | and now highlight it""",
    ),
    'it_track': bank(
        """track it | follow it | keep an eye on it | follow it through the video | now track it
        track it in the video | can you follow it? | mask it in every frame | watch it
        segment it in the video | and now follow it""",
        """now follow it through the video | can you track it? | please keep an eye on it""",
    ),
    'it_remove': bank(
        """remove it | take it away | delete it | erase it | get rid of it | now remove it
        make it disappear | take that away | please remove it | and now take it away | edit it out
        i do not want it there | it has to go | make it go away | can you remove it?""",
        """now delete it | please make it disappear | can you take it away? | and now erase it""",
    ),
    'it_recolour': bank(
        """make it {c} | now make it {c} | paint it {c} | turn it {c} | colour it {c} | color it {c}
        change it to {c} | can you make it {c}? | i want it {c} | and now {c} please | and in {c}?
        change its colour to {c} | it should be {c} | please paint it {c} | let it be {c}""",
        """now paint it {c} | can you turn it {c}? | please make it {c} | i want its colour {c}""",
    ),
    'it_replace': bank(
        """replace it with {new} | replace it by {new} | swap it for {new} | turn it into {new}
        change it into {new} | put {new} in its place | now replace it with {new}
        i want {new} instead | make it {new} | can you turn it into {new}?
        {new} instead please""",
        """now swap it for {new} | can you replace it with {new}?
        please put {new} in its place""",
    ),
    'it_add': bank(
        """add {new} {rel} it | put {new} {rel} it | now add {new} {rel} it | place {new} {rel} it
        {rel} it put {new} | can you add {new} {rel} it? | i want {new} {rel} it
        draw {new} {rel} it | and {new} {rel} it please | set {new} {rel} it""",
        """now put {new} {rel} it | can you place {new} {rel} it? | please add {new} {rel} it""",
    ),
    'them_ground': bank(
        """where are they? | show me where they are | box them | put boxes on them | locate them
        point at them | and where are they? | mark them with boxes | draw boxes around them""",
        """and show me where they are | locate them with boxes""",
    ),
    'them_seg': bank(
        """segment them | mask them | cut them out | highlight them | now segment them
        give me their masks | outline them | can you mask them? | please segment them
        and their masks? | segment all of them""",
        """now mask them | can you segment them? | please cut them out""",
    ),
    'them_track': bank(
        """track them | follow them | keep an eye on them | follow them through the video
        now track them | track them in the video | mask them in every frame | watch them""",
        """now follow them | please track them in the video""",
    ),
    'other': bank(
        """and the other one? | what about the other one? | the other one too | now the other one
        do the same with the other one | and the other? | the other one as well
        same for the other one | not that, the other one | the other one""",
        """and now the other one | what about the other? | same with the other one""",
    ),
    'also': bank(
        """what about {x}? | and {x}? | now {x} | {x} too | also {x} | same for {x} | and now {x}
        do the same with {x} | {x} as well | how about {x}? | the same for {x} please""",
        """and what about {x}? | now do the same with {x} | also {x} please""",
    ),
    'new_seg': bank(
        """segment what you just added | mask what you just put there | segment the new thing
        mask the thing you added | cut out what you just added | highlight the new one
        segment what you added | now segment the new thing | mask the new object
        show me the mask of what you added | outline what is new""",
        """mask what you just added | now highlight the new thing | cut out the new object""",
    ),
    'new_ground': bank(
        """where is what you just added? | where is the new thing? | box what you just added
        point at what is new | where did you put it? | show me the new thing
        where is the thing you added? | locate what you added""",
        """where did you put the new thing? | box what is new""",
    ),
    'again': bank(
        """again | do it again | once more | another one | one more time | repeat that
        do that again | again please | try again | one more | the same again""",
        """do that once more | repeat it | another one please""",
    ),
    'as_video': bank(
        """now as a video | make it a video | make a video of it | and as a video? | film it
        can you make that a video? | turn that into a video | the same as a video
        as a clip now""",
        """now make that a video | can you film it?""",
    ),
    'as_sound': bank(
        """what does it sound like? | and the sound of it? | let me hear it | now the sound
        make the sound of it | can i hear it? | and how does it sound? | with sound please""",
        """and what does that sound like? | now let me hear it""",
    ),
    'then_edit': bank(
        """now {e} | then {e} | and now {e} | next {e} | {e} | can you now {e}? | after that {e}
        and {e} | then please {e} | also {e}""",
        """next please {e} | and then {e} | now also {e}""",
    ),
    'still': bank(
        """is there still {a}? | do you still see {a}? | are there {ns} left? | any {ns} left?
        is {a} still there? | can you still see {a}? | is there {a} now? | still {a} there?""",
        """do you see {a} now? | are there still {ns} left?""",
    ),
    'count_left': bank(
        """how many {ns} are left? | how many {ns} are there now? | count the {ns} again
        how many {ns} now? | and how many {ns} are left? | how many {ns} do you see now?
        so how many {ns} are left? | count the {ns} now""",
        """and how many {ns} now? | count the {ns} that are left""",
    ),
}
"""By the thing referred to (it, them, the other one, what is new) and what is wanted of it."""
