"""The wordings of requests for the other tasks: tracking, edits, pictures, videos, sounds, talk.

As in `phrasings`, each bank holds templates for training and held-out ones for testing, whose words
all occur in training. Further slots: {new} a thing with its article, {c} a colour, {e} an
instruction, {p} a prompt, {m} a motion, {s} a sound, {ns} and {n} as before.
"""

from __future__ import annotations

from unifiedmllm_ros.tabletop.phrasings import Bank, bank

TASK_REQUESTS: dict[str, Bank] = {
    'one_track': bank(
        """track {x} | follow {x} | keep an eye on {x} | follow {x} through the video
        track {x} in the video | segment {x} in the video | can you track {x}? | keep track of {x}
        mask {x} in every frame | segment {x} in all frames | watch {x} | please follow {x}
        track {x} for me | follow {x} from frame to frame | start tracking {x} | trail {x}
        i want you to follow {x} | do not lose sight of {x} | track where {x} goes
        keep following {x} | stay on {x} | mask {x} through the whole video | now track {x}
        could you follow {x}? | video mask of {x} | cut {x} out of every frame
        i need a track of {x} | highlight {x} in the whole video | lock on to {x}
        follow {x} with a mask""",
        """can you keep an eye on {x}? | please track {x} in the video | start following {x}
        i want you to track {x} | segment {x} in every frame | follow {x} through all frames
        keep {x} in sight""",
    ),
    'all_track': bank(
        """track {xs} | follow {xs} | keep an eye on {xs} | follow {xs} through the video
        track {xs} in the video | segment {xs} in the video | can you track {xs}? | watch {xs}
        mask {xs} in every frame | segment {xs} in all frames | keep track of {xs}
        start tracking {xs} | please follow {xs} | mask {xs} through the whole video
        highlight {xs} in the whole video | do not lose sight of {xs} | now track {xs}""",
        """please track {xs} in the video | start following {xs} | segment {xs} in every frame
        can you keep an eye on {xs}?""",
    ),
    'remove': bank(
        """remove {x} | take {x} away | take away {x} | delete {x} | erase {x} | get rid of {x}
        remove {x} from the picture | take {x} out of the picture | make {x} disappear
        make {x} go away | can you remove {x}? | wipe {x} out | i do not want {x} in the picture
        erase {x} from the image | please delete {x} | edit {x} out | let {x} vanish | lose {x}
        could you take {x} away? | clear {x} off the table | take {x} off the table
        the picture without {x} | show the table without {x} | without {x} please
        remove {x} for me | {x} has to go | {x} should not be there | i want {x} gone | drop {x}
        paint {x} out | get {x} out of here | rub {x} out""",
        """please take {x} away | can you make {x} disappear? | i want you to erase {x}
        delete {x} from the picture | {x} has to disappear | could you get rid of {x}?
        show me the picture without {x}""",
    ),
    'replace': bank(
        """replace {x} with {new} | replace {x} by {new} | swap {x} for {new} | turn {x} into {new}
        change {x} into {new} | change {x} to {new} | put {new} in place of {x}
        make {x} into {new} | exchange {x} for {new} | can you replace {x} with {new}?
        put {new} where {x} is | instead of {x} i want {new} | i want {new} instead of {x}
        swap {x} with {new} | have {new} in place of {x} | trade {x} for {new}
        could you turn {x} into {new}? | let {x} become {new} | {new} instead of {x}
        show {new} where {x} is | substitute {new} for {x} | {x} should be {new}
        please change {x} into {new} | transform {x} into {new} | put {new} there instead of {x}""",
        """please replace {x} with {new} | can you swap {x} for {new}? | i want {new} where {x} is
        could you change {x} into {new}? | exchange {x} with {new} | {x} should become {new}""",
    ),
    'recolour': bank(
        """make {x} {c} | paint {x} {c} | colour {x} {c} | color {x} {c} | turn {x} {c}
        change {x} to {c} | recolour {x} {c} | recolor {x} {c} | dye {x} {c}
        can you make {x} {c}? | i want {x} to be {c} | change the colour of {x} to {c}
        change the color of {x} to {c} | give {x} a {c} colour | let {x} be {c}
        {x} should be {c} | {x} in {c} please | paint {x} in {c} | make {x} look {c}
        could you paint {x} {c}? | i would like {x} in {c} | show {x} in {c}
        set the colour of {x} to {c} | make the colour of {x} {c} | please turn {x} {c}
        give {x} some {c} paint""",
        """please make {x} {c} | can you paint {x} {c}? | i want {x} in {c} | colour {x} in {c}
        could you change {x} to {c}? | let the colour of {x} be {c}""",
    ),
    'add': bank(
        """add {new} {rel} {y} | put {new} {rel} {y} | place {new} {rel} {y} | draw {new} {rel} {y}
        insert {new} {rel} {y} | set {new} {rel} {y} | can you add {new} {rel} {y}?
        i want {new} {rel} {y} | paint {new} {rel} {y} | let there be {new} {rel} {y}
        {new} {rel} {y} please | i would like {new} {rel} {y} | put in {new} {rel} {y}
        there should be {new} {rel} {y} | could you put {new} {rel} {y}? | lay {new} {rel} {y}
        {rel} {y} add {new} | {rel} {y} put {new} | edit {new} in {rel} {y} | have {new} {rel} {y}
        please add {new} {rel} {y} | show {new} {rel} {y} | i need {new} {rel} {y}
        make {new} appear {rel} {y}""",
        """please put {new} {rel} {y} | can you place {new} {rel} {y}? | {rel} {y} place {new}
        i want you to add {new} {rel} {y} | could you insert {new} {rel} {y}?""",
    ),
    'edit': bank(
        """{e} | edit the picture: {e} | can you {e}? | could you {e}? | i want you to {e}
        edit this image and {e} | change the picture, {e} | {e} in this picture
        take the picture and {e} | please edit the image: {e} | image edit: {e}
        for this picture, {e} | i would like you to {e} | {e} in the whole image
        try to {e} | let us {e} | would you {e}? | with the photo, {e} | edit it: {e}
        would you please {e}? | please {e} in the picture | can you edit the image and {e}?
        change this photo: {e} | take this photo, {e} | could you {e} in this image?
        edit the photo, {e} | i need you to {e} in the photo | do this with the picture: {e}""",
        """please edit the picture: {e} | take the image and {e} | would you {e} in this picture?
        change the image, {e}""",
    ),
    'videdit': bank(
        """in the video {e} | edit the video: {e} | {e} in the video | take the video and {e}
        change the video, {e} | can you {e} in the video? | video edit: {e} | edit the clip: {e}
        for the whole video, {e} | {e} in the clip | in all frames {e} | {e} in every frame
        could you edit the video and {e}? | please edit this video: {e} | with the video, {e}
        i want you to {e} in the video | edit this clip and {e} | please {e} in this video
        take this clip, {e} | would you {e} in all frames? | with this clip, {e}
        change the clip: {e} | do this with the video: {e} | would you edit the video and {e}?
        through the whole clip {e} | i need you to {e} in every frame""",
        """could you {e} in the video? | take the clip and {e} | please edit the clip: {e}
        in every frame {e}""",
    ),
    'gen': bank(
        """draw {p} | paint {p} | make a picture of {p} | generate an image of {p} | draw me {p}
        create an image of {p} | show me a picture of {p} | i want a picture of {p}
        generate {p} | imagine {p} | can you draw {p}? | make an image of {p} | sketch {p}
        create a picture with {p} | a photo of {p} please | give me a picture of {p}
        make me a photo of {p} | could you paint {p}? | i need an image of {p} | picture of {p}
        please draw {p} | i would like to see a picture of {p} | generate a photo of {p}
        make a drawing of {p} | new image: {p} | think up a picture of {p} | illustrate {p}
        what would a picture of {p} look like? | produce an image of {p}""",
        """please make a picture of {p} | can you generate an image of {p}? | paint me {p}
        i want you to draw {p} | give me an image of {p} | create a photo of {p}
        could you sketch {p}?""",
    ),
    'vidgen': bank(
        """make a video of {p} | generate a video of {p} | create a clip of {p} | film {p}
        i want a video of {p} | show me a video of {p} | make a film of {p} | a video of {p} please
        can you make a video of {p}? | generate a clip with {p} | make a movie of {p}
        i need a video of {p} | give me a clip of {p} | produce a video of {p} | shoot {p}
        create a short video with {p} | new video: {p} | could you film {p}? | video of {p}
        i would like to see a video of {p} | make me a short film of {p}""",
        """please make a video of {p} | can you generate a clip of {p}? | give me a video of {p}
        i want a film of {p} | create a video of {p}""",
    ),
    'imgvid': bank(
        """animate this picture: {p} | make this picture move: {p} | bring the picture to life: {p}
        turn this image into a video where {p} | make a video from this picture in which {p}
        let the picture move so that {p} | animate the image so that {p} | image to video: {p}
        make the photo move: {p} | in this picture let it move so that {p}
        from this image make a clip where {p} | make a video of this image in which {p}
        bring this photo to life so that {p} | animate it: {p} | start from this picture: {p}
        can you animate the picture so that {p}? | use this photo for a video where {p}""",
        """animate this photo: {p} | turn this picture into a clip where {p}
        make the image move so that {p} | can you bring the picture to life so that {p}?""",
    ),
    'audgen': bank(
        """make the sound of {p} | let me hear {p} | play the sound of {p} | i want to hear {p}
        what does {p} sound like? | generate the sound of {p} | create a sound of {p}
        give me the sound of {p} | make a noise like {p} | sound of {p} | audio of {p}
        make an audio clip of {p} | can you make the sound of {p}? | i need the sound of {p}
        how does {p} sound? | record {p} | generate audio of {p} | produce the noise of {p}
        let it sound like {p} | a sound like {p} please | could i hear {p}? | play {p}
        play {p} for me | please let me hear {p} | could you play {p}? | create audio of {p}
        i would like to hear {p} | play a sound of {p} | make some noise like {p} | sing like {p}
        can you let me hear {p}? | the noise of {p} please""",
        """please make the sound of {p} | can i hear {p}? | create the noise of {p}
        generate a sound like {p} | play me {p}""",
    ),
    'layout': bank(
        """draw {p} | make a picture with {p} | generate an image with {p} | paint {p}
        create a picture of {p} | i want a picture with {p} | lay out {p} | arrange {p}
        make an image of {p} | a picture with {p} please | show me a picture with {p}
        generate {p} | can you draw {p}? | design a picture with {p} | compose an image with {p}
        give me a photo with {p} | i need an image with {p} | new picture: {p} | imagine {p}
        an image of {p} | a photo of {p} | set up a scene with {p} | place {p} in a new picture
        could you draw {p}? | layout: {p} | draw me {p} | i would like a picture of {p}
        think of a table with {p} | a table with {p} please | please make a picture with {p}
        could you lay out {p}? | can you generate a photo with {p}? | compose a photo with {p}
        paint a picture of {p} | set up a picture of {p}
        i need a photo with {p} | please design an image of {p}""",
        """please lay out {p} | can you make a picture with {p}? | generate a photo with {p}
        i want an image with {p} | compose a picture of {p} | paint me {p}
        set up an image with {p}""",
    ),
    'caption': bank(
        """what do you see? | describe the picture | what is in the picture? | what is on the table?
        describe the scene | what can you see? | caption this image | tell me what you see
        what is there? | what's there? | what's on the table? | give me a caption
        describe what you see | what does the picture show? | which things are on the table?
        what have we got here? | list what is on the table | what is shown here?
        describe the image for me | tell me about the picture | what stuff is there?
        a caption please | name everything on the table | what are we looking at?
        can you describe the picture? | what am i looking at? | say what is on the table""",
        """describe the table | what can you see in the picture? | tell me what is on the table
        list what you see | can you tell me what is there? | what does the image show?""",
    ),
    'caption_ground': bank(
        """describe the picture with boxes | find everything | box everything | detect all you see
        locate everything on the table | draw boxes around everything | point out everything
        what do you see and where? | list everything with boxes | show me where everything is
        put a box on everything | mark everything with boxes | what is where?
        detect everything on the table | ground everything you see
        describe the table and show where each thing is | everything with boxes please""",
        """what is on the table and where? | find everything on the table
        point out everything you see | describe everything with boxes""",
    ),
    'hello': bank(
        """hello | hi | hello there | hi there | good morning | good evening | hey you | hello robot
        hi robot | good day | greetings | hey there | good afternoon | good evening to you
        good morning to you | hello again | hello my robot | hi you""",
        """good morning robot | hello you | good evening robot""",
    ),
    'bye': bank(
        """bye | goodbye | good bye | see you | see you later | good night | bye bye | so long
        that is all, bye | until next time | see you tomorrow | that is all for today, bye
        good night, robot | so long, see you | thanks, that is all | that is all, so long""",
        """bye, see you later | goodbye, see you | that is all, good night""",
    ),
    'thanks': bank(
        """thanks | thank you | thanks a lot | many thanks | thank you very much | cheers
        that helped, thanks | great, thank you | thank you robot | nice, thanks | thanks so much
        thanks for that | thank you for your help | many thanks, robot | thanks to you""",
        """thank you so much | thanks robot | nice, thank you""",
    ),
    'praise': bank(
        """well done | good job | great | very good | nice work | that was good | perfect
        you are great | good robot | excellent | that is right | right | that was very good
        great job | that was nice | you are right | you are a good robot""",
        """great work | that was great | you are good""",
    ),
    'fine': bank(
        """how are you? | how are you doing? | how do you do? | are you well? | are you ok?
        how is it going? | what's up? | all good with you? | how do you feel? | how are you robot?
        are you doing ok? | how do you feel today? | how are things with you?""",
        """are you doing well? | how are you today?""",
    ),
    'who': bank(
        """who are you? | what are you? | what is your name? | tell me who you are
        what's your name? | do you have a name? | introduce yourself | are you a robot?
        who am i talking to? | what are you called? | who is there? | how are you today called?""",
        """tell me your name | what kind of robot are you called?""",
    ),
    'skills': bank(
        """what can you do? | help | how can you help me? | what are you good for? | help me
        what do you know? | tell me what you can do | what kind of things can you do?
        what should i ask you? | how do you work? | what are you able to do?
        how can i use you? | show me what you can do""",
        """what can i ask you? | how can you help? | what things are you able to do?""",
    ),
    'refuse': bank(
        """{p} | can you {p}? | please {p} | could you {p}? | i want you to {p} | would you {p}?
        go and {p} | {p} for me | robot, {p} | i need you to {p} | please {p} for me
        now go and {p} | could you go and {p}? | would you {p} for me? | will you {p}?
        i would like you to {p} | you should {p}""",
        """please go and {p} | can you {p} for me?""",
    ),
    'unknown': bank(
        """{p}? | do you know {p}? | tell me {p} | can you tell me {p}? | i want to know {p}
        say {p} | please tell me {p} | i wonder {p} | could you tell me {p}? | please say {p}
        do you happen to know {p}? | can you see {p}? | i need to know {p} | would you know {p}?
        could you say {p} please?""",
        """do you know {p} please? | can you say {p}?""",
    ),
}

PLACES: dict[str, Bank] = {
    'left of': bank(
        """left of | to the left of | on the left of | on the left side of | just left of
        far to the left of | a bit to the left of | directly left of""",
        'to the left side of',
    ),
    'right of': bank(
        """right of | to the right of | on the right of | on the right side of | just right of
        far to the right of | a bit to the right of | directly right of""",
        'to the right side of',
    ),
    'above': bank(
        """above | over | higher than | on top of | just above | right over | directly above
        far above | a bit above""",
        'right above',
    ),
    'below': bank(
        """below | under | beneath | lower than | just below | right under | directly below
        far below | a bit below""",
        'right below',
    ),
    'next to': bank(
        """next to | beside | by | close to | just beside | right next to | directly beside
        very close to | right by""",
        'right beside',
    ),
}
"""Relations of things to be added, and of things in a picture to be made."""
